"""From the end of a search to the explanation that is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autointerp.explainers.agent.belief import CONFIRMED_RATE
from autointerp.explainers.agent.ledger import Entry, Ledger
from autointerp.explainers.agent.loop import Result
from autointerp.explainers.agent.roles import MeasuredProbe
from autointerp.judges import Judge, Verdict
from autointerp.latents import (
    HARD_SOURCES,
    Cost,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
)
from autointerp.patterns import NOTHING_TEXT, SEPARATOR
from autointerp.statistics import derived_generator

LABEL_WORDS = 20
MARGIN = 0.02  # within which the simpler text wins


def joined(texts: Sequence[str]) -> str:
    """One text for several parts of an either-or; patterns make a pattern."""
    return SEPARATOR.join(text.rstrip(".") for text in texts) if len(texts) > 1 else "".join(texts)


def published(latent: LatentId, name: str, result: Result, cost: Cost) -> Explanation:
    """What the search found, whatever it found."""
    confirmed = result.confirmed
    details = _details(result)
    common: dict[str, Any] = {"latent": latent, "explainer": name, "cost": cost}
    if result.failed:
        return Explanation(
            text="", status="failed", reason=result.stopped, details=details, **common
        )
    if not confirmed:
        reason = f"no hypothesis was confirmed: {result.stopped}"
        return Explanation(
            text=NOTHING_TEXT, status="no_explanation", reason=reason, details=details, **common
        )
    missing = f"{result.uncovered:.0%} of the exemplars are left unexplained: {result.stopped}"
    return Explanation(
        reason=missing if result.uncovered else None,
        text=joined([entry.hypothesis.text for entry in confirmed]),
        components=tuple(entry.hypothesis.text for entry in confirmed),
        confidence=min(map(_confidence, confirmed)),
        details=details,
        **common,
    )


def _confidence(entry: Entry) -> float:
    """Probability that both rates are as high as confirming asks."""
    belief = entry.belief
    return belief.hits.exceeds(CONFIRMED_RATE) * belief.rejections.exceeds(CONFIRMED_RATE)


def _details(result: Result) -> dict[str, Any]:
    share = {cluster.id: cluster.share for cluster in result.ledger.clusters}
    confirmed = [entry.hypothesis for entry in result.confirmed]
    return {
        "label": _label([h.label or h.text for h in confirmed]),
        "weights": [round(sum(share[c] for c in h.clusters), 4) for h in confirmed],
        "exclusions": [x for h in confirmed for x in h.exclusions],
        "unexplained": result.uncovered,
        "stopped": result.stopped,
        "rounds": result.rounds,
        "calls": result.calls,
        "measured": result.measured,
        "hypotheses": [_hypothesis(e, result.ledger) for e in result.ledger.entries.values()],
        "probes": [_probe(probe, result.ledger) for probe in result.ledger.probes.values()],
        "events": result.events,
    }


def _label(labels: Sequence[str]) -> str:
    """As many labels, heaviest first, as twenty words hold; the first is cut if it must be."""
    chosen: list[str] = []
    for label in labels:
        if len(joined([*chosen, label]).split()) > LABEL_WORDS:
            break
        chosen.append(label)
    if labels and not chosen:
        return " ".join([*labels[0].split()[: LABEL_WORDS - 1], "…"])
    return joined(chosen)


def _hypothesis(entry: Entry, ledger: Ledger) -> dict[str, Any]:
    belief = entry.belief
    name = entry.hypothesis.id
    levels = [
        max(probe.excerpt.levels)
        for probe in ledger.probes.values()
        if probe.plan.predictions.get(name) == "on"
    ]
    return {
        "id": entry.hypothesis.id,
        "text": entry.hypothesis.text,
        "state": {"settled": "confirmed", "open": "open", "gone": "discarded"}[entry.place],
        "verdict": belief.verdict,
        "hits": [belief.hits.successes, belief.hits.families],
        "rejections": [belief.rejections.successes, belief.rejections.families],
        "level": {
            "predicted": entry.hypothesis.level,
            "measured": round(sum(levels) / len(levels), 2) if levels else None,
        },
    }


def _probe(probe: MeasuredProbe, ledger: Ledger) -> dict[str, Any]:
    contradicts = [m.hypothesis for m in ledger.missed if m.probe is probe]
    return {
        "id": probe.id,
        "text": probe.plan.text,
        "kind": probe.plan.kind,
        "family": probe.plan.family,
        "predictions": dict(probe.plan.predictions),
        "reading": probe.reading,
        "tokens": list(probe.excerpt.tokens),
        "levels": list(probe.excerpt.levels),
        "contradicts": contradicts,
    }


class Chooser:
    """Compares texts by detection on the same SELECT windows.

    Args:
        windows: positives and hard negatives to ask about, each; None for all there are, random
            ones too.
    """

    def __init__(
        self, judge: Judge, selection: LabelledSet, windows: int | None, seed: int
    ) -> None:
        rng = derived_generator(seed, selection.latent, "choose on select")
        items = [selection.items[i] for i in rng.permutation(len(selection.items)).tolist()]
        self._judge, self._latent = judge, selection.latent
        self._positives = [item for item in items if item.truth][:windows]
        hard = [item for item in items if item.source in HARD_SOURCES][:windows]
        random = [item for item in items if item.source == "random"][:windows]
        offered = [hard, random] if windows is None else [hard or random]
        self._negatives = [negatives for negatives in offered if negatives]

    @property
    def possible(self) -> bool:
        """Whether SELECT has windows of both labels."""
        return bool(self._positives and self._negatives)

    async def value(self, text: str) -> float:
        """Balanced accuracy, kinds of negatives weighing the same; no answer is a wrong one."""
        groups = [self._positives, *self._negatives]
        items = [item for group in groups for item in group]
        examples = [item.example for item in items]
        verdicts = iter(await self._judge.detect(text, examples, latent=self._latent))
        recall, *rejected = [
            sum(_right(item, next(verdicts)) for item in group) / len(group) for group in groups
        ]
        return round(0.5 * (recall + sum(rejected) / len(rejected)), 6)

    async def best(self, candidates: Mapping[str, Explanation]) -> tuple[str, dict[str, float]]:
        """The name of the best text, the shortest of those within the margin; and all values."""
        values = {name: await self.value(e.text) for name, e in candidates.items()}
        near = [name for name in values if values[name] >= max(values.values()) - MARGIN]
        return min(near, key=lambda name: len(candidates[name].text.split())), values


def _right(item: Item, verdict: object) -> bool:
    return isinstance(verdict, Verdict) and verdict.label == item.truth


def replaced(
    ours: Explanation, other: Explanation, by: str, values: Mapping[str, float]
) -> Explanation:
    """Another explainer's text, published in place of ours with all that was measured.

    Label, weights and exclusions are of the text that is published. ``values`` are those of the
    texts on SELECT; the reason says by how much ours was better or worse.
    """
    label = other.details.get("label") or _label(other.components or [other.text])
    return replace(
        ours,
        text=other.text,
        components=other.components,
        confidence=other.confidence,
        status="explained",
        reason=_why(ours, by, values),
        details={**ours.details, "label": label, "weights": [], "exclusions": []},
    )


def _why(ours: Explanation, by: str, values: Mapping[str, float]) -> str:
    theirs = f"the text is the {by} explainer's"
    if ours.status != "explained":
        return f"{ours.reason}; {theirs}"
    own, value = values[ours.explainer], values[by]
    told = f"{theirs}: {value:.3f} on SELECT, the {ours.explainer}'s own {own:.3f}"
    near = f"; of texts within {MARGIN:g} the shortest is published"
    return told if value > own + MARGIN else told + near
