"""What scorers that give every window a number share: the question they can answer, and AUROC."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..latents import (
    HARD_SOURCES,
    Explanation,
    Failure,
    Item,
    LabelledSet,
    Metric,
    Number,
    Score,
)
from ..statistics import auroc, auroc_interval
from .labels import POSITIVE

HEADLINE = "auroc"
CHANCE = 0.5
Ranked = Number | Failure


def ranked(items: Sequence[Item], values: Sequence[float | str]) -> list[Ranked]:
    """An outcome an item: its number, or why there is none that can be ranked."""
    return [_ranked(item, value) for item, value in zip(items, values, strict=True)]


def _ranked(item: Item, value: float | str) -> Ranked:
    if isinstance(value, str):
        return Failure(value, item.source, item.decile)
    if not math.isfinite(value):
        return Failure(f"the window's number is {value}", item.source, item.decile)
    return Number(value, item.source, item.decile)


def shortage(test: LabelledSet) -> str | None:
    """Why positives cannot be told from random negatives, if they cannot."""
    if test.shortage is not None:
        return test.shortage
    sources = {item.source for item in test.items}
    if POSITIVE not in sources:
        return "no windows in which the latent is active"
    if "random" not in sources:
        return test.unavailable.get("random", "no random windows in which the latent is inactive")
    return None


def rank_score(
    outcomes: Sequence[Ranked], explanation: Explanation, scorer: str, test: LabelledSet
) -> Score:
    """The score that these numbers give the explanation; failed if there is none."""
    reasons = [o.reason for o in outcomes if isinstance(o, Failure)]
    failed = len(reasons) == len(outcomes)
    return Score(
        latent=explanation.latent,
        explanation=explanation.id,
        scorer=scorer,
        judge="",
        headline=HEADLINE,
        chance=CHANCE,
        metrics=rank_metrics(outcomes),
        outcomes=outcomes,
        status="failed" if failed else "scored",
        reason=f"no window was measured: {reasons[0]}" if failed else None,
        details={"unavailable": dict(test.unavailable), "dropped": test.dropped},
    )


def too_few(explanation: Explanation, reason: str, scorer: str) -> Score:
    """The score of a latent that has too few windows: nothing was measured."""
    return Score(
        latent=explanation.latent,
        explanation=explanation.id,
        scorer=scorer,
        judge="",
        headline=HEADLINE,
        chance=CHANCE,
        metrics={},
        outcomes=(),
        status="too_few_examples",
        reason=reason,
    )


def rank_metrics(outcomes: Sequence[Ranked]) -> dict[str, Metric]:
    """``auroc`` of positives against random negatives, with its interval.

    Each other source gives its name to the AUROC against it alone, and ``hard`` is the mean over
    ``token``, ``neighbour`` and ``semantic``, where there are any. Failures rank at the wrong end,
    save in ``best_case``, the headline if all ranked at the right one.
    """
    ranks = _by_source(outcomes, failed=-np.inf)
    best = _by_source(outcomes, failed=np.inf)
    positives = ranks.pop(POSITIVE)
    found = {source: _auroc(positives, values) for source, values in ranks.items()}
    metrics = {HEADLINE: found.pop("random"), **found}
    hard = [found[source] for source in HARD_SOURCES if source in found]
    if hard:
        n = len(positives) + sum(m.n - len(positives) for m in hard)
        metrics["hard"] = Metric(float(np.mean([m.value for m in hard])), n=n)
    failures, headline = sum(isinstance(o, Failure) for o in outcomes), metrics[HEADLINE]
    return {
        **metrics,
        "failures": Metric(float(failures), n=len(outcomes)),
        "worst_case": Metric(headline.value, n=headline.n),
        "best_case": Metric(_auroc(best[POSITIVE], best["random"]).value, n=headline.n),
    }


def _by_source(outcomes: Sequence[Ranked], failed: float) -> dict[str, list[float]]:
    """The numbers of each source; a positive that failed has ``failed``, a negative −``failed``."""
    ranks: dict[str, list[float]] = {}
    for outcome in outcomes:
        missing = failed if outcome.source == POSITIVE else -failed
        value = missing if isinstance(outcome, Failure) else outcome.value
        ranks.setdefault(outcome.source, []).append(value)
    return ranks


def _auroc(positives: Sequence[float], negatives: Sequence[float]) -> Metric:
    n, m = len(positives), len(negatives)
    value = auroc([True] * n + [False] * m, [*positives, *negatives])
    interval = auroc_interval(value, n, m)
    return Metric(interval.value, interval.low, interval.high, n + m)
