"""Two runs side by side: what one scores more than the other, by latent and by item.

Latents are paired where both runs have the same subject and coders, items where also all that
their windows depend on is the same. Intervals come from a bootstrap over latents, within coders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from autointerp.latents import (
    AutointerpError,
    Choice,
    Failure,
    Label,
    LatentId,
    Outcome,
    Score,
)
from autointerp.pipeline import directory
from autointerp.pipeline.own_texts import EXPLAINER
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, counts_for
from autointerp.pipeline.standings import SELECT
from autointerp.sections import CASCADE
from autointerp.statistics import Interval, bootstrap_mean, intraclass_interval

Document = dict[str, Any]
Scores = Mapping[LatentId, Score]
_SAME_LATENTS = ("subject.", "checkpoints.")  # settings that say which latents a run is about
_SAME_WINDOWS = (*_SAME_LATENTS, "corpus.", "examples.", "run.")  # and which windows it judges


@dataclass(frozen=True)
class Side:
    """One of the two runs: its results, and the explainer whose explanations count."""

    results: Results
    explainer: str

    @classmethod
    def of(cls, results: Results) -> Side:
        """Of the explainer that was scored: of several the one which the run is about, else the
        cascade.

        Raises:
            AutointerpError: if nothing was scored, or by several explainers.
        """
        ids = {s.score.explanation or "" for s in results.scores() if s.score.scorer != SELECT}
        inputs = {name for _, kind, name in (i.rsplit(":", 2) for i in ids if i) if kind == "input"}
        for name in (results.noted(EXPLAINER), CASCADE):
            if name in inputs:
                return cls(results, name)
        if len(inputs) == 1:
            return cls(results, *inputs)
        run = results.path.parent
        if not inputs:
            raise AutointerpError(f"{run} has no scores yet; `autointerp run` makes them")
        raise AutointerpError(
            f"{run} has scores of {', '.join(sorted(inputs))}; compare runs of one"
        )

    def scorers(self) -> list[str]:
        found = {s.score.scorer for s in self.results.scores() if s.control == TRUE}
        return sorted(found - {SELECT})

    def scores(self, scorer: str) -> dict[LatentId, Score]:
        """The scored latents; outcomes left out."""
        found = (s.score for s in self.results.scores(scorer) if s.control == TRUE)
        mine = (s for s in found if counts_for(s.explanation, self.explainer))
        return {s.latent: s for s in mine if s.status == "scored"}

    def outcomes(self, score: Score) -> Sequence[Outcome]:
        for s in self.results.scores(score.scorer, score.latent, outcomes=True):
            if s.control == TRUE and s.score.explanation == score.explanation:
                return s.score.outcomes
        return ()


def compare(run_a: Path, run_b: Path, *, scorer: str | None = None, seed: int = 0) -> Document:
    """The document of ``compare``; every difference is B minus A.

    Raises:
        AutointerpError: if a run has no scores, or the two have no scorer in common.
    """
    with (
        Results.read(run_a / directory.RESULTS) as results_a,
        Results.read(run_b / directory.RESULTS) as results_b,
    ):
        a, b = Side.of(results_a), Side.of(results_b)
        common = [name for name in a.scorers() if name in b.scorers()]
        wanted = [name for name in common if scorer in (None, name)]
        if not wanted:
            raise AutointerpError(
                f"{run_a} and {run_b} have not both the scorer {scorer or 'of any kind'}"
                f" (in common: {', '.join(common) or 'none'})"
            )
        paired, alike = (
            _about(results_a, settings) == _about(results_b, settings)
            for settings in (_SAME_LATENTS, _SAME_WINDOWS)
        )
        alike &= _corpus(run_a) == _corpus(run_b)
        scores = {name: _scorer(a, b, name, paired, alike, seed) for name in wanted}
    sides = {"a": str(run_a), "b": str(run_b)}
    explainers = {"explainer_a": a.explainer, "explainer_b": b.explainer}
    return {**sides, **explainers, "paired": paired, "scores": scores}


def _about(results: Results, settings: tuple[str, ...]) -> dict[str, Any]:
    held = results.settings()
    return {name: value for name, value in held.items() if name.startswith(settings)}


def _corpus(run: Path) -> Any:
    """The fingerprint of the documents that the run's windows come from."""
    return directory.read_record(run).get("corpus")


def _scorer(a: Side, b: Side, name: str, paired: bool, alike: bool, seed: int) -> Document:
    scores_a, scores_b = a.scores(name), b.scores(name)
    headlines = {s.headline for s in [*scores_a.values(), *scores_b.values()]}
    document: Document = {"metric": headlines.pop() if len(headlines) == 1 else None}
    if document["metric"] is None:
        return {**document, "n": 0, "difference": None, "items": None}
    if not paired:
        return document | _unpaired(list(scores_a.values()), list(scores_b.values()), seed)
    both = sorted(scores_a.keys() & scores_b.keys())
    document |= {"n": len(both), "only_in_a": len(scores_a) - len(both)}
    document |= {"only_in_b": len(scores_b) - len(both)}
    if not both:
        return {**document, "difference": None, "items": None}
    values_a, values_b = (
        [_value(scores[latent]) for latent in both] for scores in (scores_a, scores_b)
    )
    differences = [y - x for x, y in zip(values_a, values_b, strict=True)]
    return {
        **document,
        "a": sum(values_a) / len(both),
        "b": sum(values_b) / len(both),
        "difference": _mean(differences, both, seed),
        "better_in_a": sum(d < 0 for d in differences),
        "better_in_b": sum(d > 0 for d in differences),
        **_agreement(values_a, values_b),
        "items": _items(a, b, scores_a, scores_b, seed) if alike else None,
    }


def _agreement(values_a: Sequence[float], values_b: Sequence[float]) -> Document:
    """The intra-class correlation of the two runs' scores, and its 95 % interval: how far they are
    the latents' own, where one run is a rerun of the other. Nothing where nothing varies."""
    if len({*values_a, *values_b}) < 2 or len(values_a) < 2:
        return {"icc": None, "icc_interval": None}
    icc = intraclass_interval(list(zip(values_a, values_b, strict=True)))
    return {"icc": icc.value, "icc_interval": [icc.low, icc.high]}


def _unpaired(scores_a: Sequence[Score], scores_b: Sequence[Score], seed: int) -> Document:
    """The difference of two means over different latents."""
    if not scores_a or not scores_b:
        return {"n": 0, "difference": None, "items": None}
    a, b = (
        bootstrap_mean([_value(s) for s in side], [s.latent.coder for s in side], seed=seed)
        for side in (scores_a, scores_b)
    )
    # The distances to the limits of independent means add up as squares (MOVER).
    below = sqrt((b.value - b.low) ** 2 + (a.high - a.value) ** 2)
    above = sqrt((b.high - b.value) ** 2 + (a.value - a.low) ** 2)
    difference = b.value - a.value
    interval = Interval(difference, difference - below, difference + above)
    return {
        "n_a": len(scores_a),
        "n_b": len(scores_b),
        "a": a.value,
        "b": b.value,
        "difference": _plain(interval),
        "items": None,
    }


def _items(a: Side, b: Side, scores_a: Scores, scores_b: Scores, seed: int) -> Document | None:
    """Of items that both runs judged: how many only one judged rightly, and by how much more
    often B does."""
    latents: list[LatentId] = []
    differences: list[float] = []
    n = only_a = only_b = 0
    for latent in sorted(scores_a.keys() & scores_b.keys()):
        pairs = _same(a.outcomes(scores_a[latent]), b.outcomes(scores_b[latent]))
        if not pairs:
            continue
        first = sum(x and not y for x, y in pairs)
        second = sum(y and not x for x, y in pairs)
        n, only_a, only_b = n + len(pairs), only_a + first, only_b + second
        latents.append(latent)
        differences.append((second - first) / len(pairs))
    if not latents:
        return None
    difference = _mean(differences, latents, seed)
    counts = {"n": n, "latents": len(latents), "right_only_in_a": only_a, "right_only_in_b": only_b}
    return {**counts, "difference": difference}


def _same(a: Sequence[Outcome], b: Sequence[Outcome]) -> list[tuple[bool, bool]]:
    """Whether each item was judged rightly in both; none if they are not the same items, or if
    none has an answer that could be right."""
    if [(o.source, o.decile) for o in a] != [(o.source, o.decile) for o in b]:
        return []
    if not any(isinstance(outcome, Label | Choice) for outcome in (*a, *b)):
        return []
    judged = [(_right(x), _right(y)) for x, y in zip(a, b, strict=True)]
    return [(x, y) for x, y in judged if x is not None and y is not None]


def _right(outcome: Outcome) -> bool | None:
    """None for outcomes that are neither right nor wrong; a failure is wrong."""
    if isinstance(outcome, Label):
        return outcome.label == outcome.truth
    if isinstance(outcome, Choice):
        return outcome.chosen == outcome.truth
    return False if isinstance(outcome, Failure) else None


def _value(score: Score) -> float:
    return score.metrics[score.headline].value


def _mean(values: Sequence[float], latents: Sequence[LatentId], seed: int) -> Document:
    return _plain(bootstrap_mean(values, [latent.coder for latent in latents], seed=seed))


def _plain(interval: Interval) -> Document:
    return {"mean": interval.value, "low": interval.low, "high": interval.high}
