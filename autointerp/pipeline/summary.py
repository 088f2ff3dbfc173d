"""The JSON documents of a run as a whole, read from its directory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autointerp.examples.store import ExampleStore
from autointerp.latents import (
    SOURCES,
    SPLITS,
    Explanation,
    LatentId,
    Score,
)
from autointerp.pipeline.figures import Dependence, dependence, figures, lifts
from autointerp.pipeline.repeats import REPEAT, judge_error
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.pipeline.standings import SELECT, report, total
from autointerp.sections import CASCADE
from autointerp.statistics import bootstrap_mean

Document = dict[str, Any]
BALANCED = "balanced_accuracy"
_COSTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "dollars")


def summarise(
    results: Results, *, run: Path, explainer: str, planned: int, seconds: float, seed: int = 0
) -> Document:
    """The document of ``run``, ``score`` and ``status``."""
    explanations = results.explanations(explainer)
    scores = [s for s in results.scores() if _of(s.score, explainer)]
    outputs = [e for e in results.explanations() if e.kind == "output"]
    failed = {e.latent for e in [*explanations, *outputs] if e.status == "failed"}
    failed |= {s.score.latent for s in scores if s.score.status == "failed"}
    tiers = {"cascade": report(results)} if explainer == CASCADE else {}
    return {
        **tiers,
        "run": str(run),
        "latents": max(planned, len(explanations)),
        "explained": sum(e.status == "explained" for e in explanations),
        "failed": len(failed),
        "by_status": dict(sorted(Counter(e.status for e in explanations).items())),
        "scores": _scores(results, scores, seed),
        "cost": _cost([*explanations, *outputs], [s.score for s in scores]),
        "seconds": seconds,
    }


def _of(score: Score, explainer: str) -> bool:
    """Whether it is a score of this explainer's explanation, or of an effect's, and of TEST."""
    if score.explanation is None or score.scorer == SELECT:
        return False
    *_, kind, name = score.explanation.split(":")
    return kind == "output" or name == explainer


def _scores(results: Results, scores: Sequence[Scored], seed: int) -> Document:
    by_scorer: dict[str, list[Scored]] = defaultdict(list)
    for scored in scores:
        by_scorer[scored.score.scorer].append(scored)
    documents = {}
    for name, members in sorted(by_scorer.items()):
        asked_once = [s for s in members if s.control != REPEAT]
        documents[name] = _scorer(asked_once, dependence(results, name, seed), seed)
        error = judge_error(results, name) if len(asked_once) < len(members) else None
        documents[name] |= {"judge_error": error} if error else {}
    return documents


def _scorer(members: Sequence[Scored], dependent: Dependence, seed: int) -> Document:
    """One scorer's figures over all latents that it could score."""
    true = [s.score for s in members if s.control == TRUE]
    scored = [s for s in true if s.status == "scored"]
    document: Document = {
        "metric": scored[0].headline if scored else None,
        "n": len(scored),
        "mean": None,
        "low": None,
        "high": None,
        "chance": scored[0].chance if scored else None,
        "controls": {},
        "control_intervals": {},
        "lifts": {},
        "by_source": {},
        "by_coder": {},
        "by_status": dict(sorted(Counter(s.status for s in true).items())),
    }
    if not scored:
        return document
    document |= _mean(scored, seed)
    for name in sorted({s.control for s in members} - {TRUE}):
        control = [s.score for s in members if s.control == name and s.score.status == "scored"]
        if control:
            document["control_intervals"][name] = _mean(control, seed)
            document["controls"][name] = document["control_intervals"][name]["mean"]
    document["lifts"] = lifts(members, seed)
    document["by_source"] = _by_source(scored)
    document |= figures(scored, dependent)
    for coder in sorted({s.latent.coder for s in scored}):
        document["by_coder"][coder] = _mean([s for s in scored if s.latent.coder == coder], seed)
    return document


def _mean(scores: Sequence[Score], seed: int) -> Document:
    interval = bootstrap_mean(
        [s.metrics[s.headline].value for s in scores], [s.latent.coder for s in scores], seed=seed
    )
    return {
        "n": len(scores),
        "mean": interval.value,
        "low": interval.low,
        "high": interval.high,
    }


def _by_source(scores: Sequence[Score]) -> dict[str, float]:
    """Mean balanced accuracy against each source of negatives that there are; that against the
    headline's source is the headline."""
    found: dict[str, float] = {}
    for source in SOURCES:
        against = [s.metrics for s in scores if f"specificity_{source}" in s.metrics]
        if against:
            headline = scores[0].headline
            own = [m.get(source, m.get(BALANCED, m[headline])) for m in against]
            found[source] = _average(metric.value for metric in own)
    return found


def _average(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _cost(explanations: Sequence[Explanation], scores: Sequence[Score]) -> Document:
    cost = total([*(e.cost for e in explanations), *(s.cost for s in scores)])
    return {name: getattr(cost, name) for name in _COSTS}


def failures(results: Results, explainer: str) -> list[tuple[LatentId, str]]:
    """Every failed latent with the reason, explaining first."""
    failed = [
        (e.latent, e.reason or "")
        for e in results.explanations()
        if e.status == "failed" and (e.explainer == explainer or e.kind == "output")
    ]
    failed += [
        (s.score.latent, f"{s.score.scorer} {s.control}".strip() + f": {s.score.reason}")
        for s in results.scores()
        if s.score.status == "failed" and _of(s.score, explainer)
    ]
    return failed


def collected(store: ExampleStore, run: Path) -> Document:
    """The document of ``collect``."""
    splits = store.document_split
    return {
        "run": str(run),
        "tokens": store.token_count,
        "documents": {name: int((splits == i).sum()) for i, name in enumerate(SPLITS)},
        "hookpoints": {
            name: {
                "hook": record.hook,
                "width": record.width,
                "alive": record.alive,
                "dead": record.dead,
                "rare": record.rare,
                "l0": record.l0,
                "variance_explained": record.variance_explained,
                "claims": record.claims,
            }
            for name, record in store.coders.items()
        },
        "fingerprint": store.fingerprint,
        **store.header["report"],
    }
