"""What a scorer of predicted activations reports: correlations, baselines and lift over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..latents import Evidence, Example, Failure, Item, Metric, Values
from ..statistics import affine_fit, pearson, pooled_pearson, r_squared

Floats = NDArray[np.float64]
Predicted = Values | Failure


def correlation_metrics(
    items: Sequence[Item], outcomes: Sequence[Predicted], rng: np.random.Generator
) -> dict[str, Metric]:
    """Pooled and per-text Pearson of the outcomes of some windows.

    A failed window counts as one of which nothing is known: the mean of all other predictions,
    and 0 by itself. ``worst_case`` and ``best_case`` are the pooled Pearson if every failure were
    as wrong or as right as can be. ``per_text`` leaves out windows whose truth is constant, as
    that of an inactive window is; ``constant_truth`` counts them.
    """
    truths = [_truth(item) for item in items]
    predicted = _filled(truths, outcomes)
    pooled = pooled_pearson(list(zip(truths, predicted, strict=True)), rng)
    varied = [i for i, truth in enumerate(truths) if np.ptp(truth) > 0]
    each = [pearson(truths[i], predicted[i]) for i in varied]
    n, failed = len(items), sum(isinstance(o, Failure) for o in outcomes)
    worst, best = _bounds(truths, outcomes) if failed else (pooled.value, pooled.value)
    return {
        "pearson": Metric(pooled.value, pooled.low, pooled.high, n),
        "per_text": Metric(float(np.mean(each)) if each else 0.0, n=len(each)),
        "constant_truth": Metric(float(n - len(each)), n=n),
        "failures": Metric(float(failed), n=n),
        "worst_case": Metric(worst, n=n),
        "best_case": Metric(best, n=n),
    }


def calibrated(
    items: Sequence[Item],
    outcomes: Sequence[Predicted],
    fitted_on: Sequence[Item],
    fitted: Sequence[Predicted],
) -> Metric:
    """R² of the predictions in the latent's own units, by the straight line that fits best on
    other windows. Failed windows count as there."""
    line = affine_fit(*_pooled(fitted_on, fitted))
    truth, predicted = _pooled(items, outcomes)
    return Metric(r_squared(truth, line[0] + line[1] * predicted), n=len(items))


def with_lift(baselines: Mapping[str, Metric], own: Metric) -> dict[str, Metric]:
    """The pooled Pearson of baselines, and what ``own`` gains over each."""
    return dict(baselines) | {
        f"lift_over_{name}": Metric(own.value - other.value, n=own.n)
        for name, other in baselines.items()
    }


@dataclass(frozen=True)
class Baselines:
    """Predictors that know no explanation: a token's place in its window, and the token itself.

    Both are means over EXPLAIN windows: a uniform sample of active ones, and background windows
    in which the latent is inactive, which together weigh as much.
    """

    active: Sequence[Example]
    inactive: NDArray[np.int32]  # [n, window]

    @classmethod
    def of(cls, evidence: Evidence) -> Baselines:
        quiet = evidence.background_maxima <= 0
        return cls(evidence.sampled, evidence.background.token_ids[quiet])

    def metrics(self, items: Sequence[Item]) -> dict[str, Metric]:
        """The pooled Pearson of each on some windows; none without active EXPLAIN windows."""
        if not self.active:
            return {}
        truth = np.concatenate([_truth(item) for item in items])
        by_place = np.mean([e.activations for e in self.active], axis=0)
        position = np.tile(by_place, len(items))
        ids = np.concatenate([item.example.token_ids for item in items])
        return {
            "position_only": Metric(pearson(truth, position), n=len(items)),
            "token_lookup": Metric(pearson(truth, self.by_token(ids)), n=len(items)),
        }

    def by_token(self, ids: NDArray[np.int32]) -> Floats:
        """[n] mean activation of each token id; the mean of all for one that was never seen."""
        known, place = np.unique(ids, return_inverse=True)
        seen = np.stack([e.token_ids for e in self.active])
        values = np.stack([e.activations for e in self.active]).astype(np.float64)
        share = len(seen) / max(1, len(self.inactive))
        counts = _counts(known, seen) + share * _counts(known, self.inactive)
        sums = _counts(known, seen, values)
        overall = values.sum() / (seen.size + share * self.inactive.size)
        means = np.divide(sums, counts, out=np.full(len(known), overall), where=counts > 0)
        return np.asarray(means[place.reshape(-1)])


def _counts(
    known: NDArray[np.int32], ids: NDArray[np.int32], weights: Floats | None = None
) -> Floats:
    """[known] how often each id occurs, or the sum of its weights; ``known`` ascends."""
    flat = ids.reshape(-1)
    at = np.minimum(np.searchsorted(known, flat), len(known) - 1)
    found = known[at] == flat
    chosen = None if weights is None else weights.reshape(-1)[found]
    return np.bincount(at[found], chosen, len(known)).astype(np.float64)


def _truth(item: Item) -> Floats:
    """[window]"""
    return item.example.activations.astype(np.float64)


def _filled(truths: Sequence[Floats], outcomes: Sequence[Predicted]) -> list[Floats]:
    """The predictions, and in place of failed ones the mean of the others."""
    there = [np.array(o.predicted) for o in outcomes if isinstance(o, Values)]
    mean = float(np.concatenate(there).mean()) if there else 0.0
    return [
        np.array(o.predicted) if isinstance(o, Values) else np.full(len(truth), mean)
        for truth, o in zip(truths, outcomes, strict=True)
    ]


def _bounds(truths: Sequence[Floats], outcomes: Sequence[Predicted]) -> tuple[float, float]:
    """The pooled Pearson with every failed window mirrored about the line of the others, and on
    it."""
    pairs = list(zip(truths, outcomes, strict=True))
    there = [(np.array(o.predicted), t) for t, o in pairs if isinstance(o, Values)]
    if not there:
        return -1.0, 1.0
    offset, slope = affine_fit(*map(np.concatenate, zip(*there, strict=True)))
    slope = abs(slope) or 1.0

    def with_failures(sign: float) -> float:
        sides = [
            np.array(o.predicted) if isinstance(o, Values) else offset + sign * slope * t
            for t, o in pairs
        ]
        return pearson(np.concatenate(truths), np.concatenate(sides))

    return with_failures(-1.0), with_failures(1.0)


def _pooled(items: Sequence[Item], outcomes: Sequence[Predicted]) -> tuple[Floats, Floats]:
    truths = [_truth(item) for item in items]
    return np.concatenate(truths), np.concatenate(_filled(truths, outcomes))
