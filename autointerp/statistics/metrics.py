"""Metrics of yes/no answers from counts and from ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from autointerp.statistics.rates import Interval, Tally


def ratio(numerator: float, denominator: float) -> float:
    """Their quotient, 0 without a denominator."""
    return numerator / denominator if denominator else 0.0


@dataclass(frozen=True)
class Confusion:
    """Counts of a yes/no question. A ratio without a denominator is 0."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @classmethod
    def of(cls, positives: Tally, negatives: Tally) -> Confusion:
        """Failures are wrong answers."""
        return cls(
            positives.right,
            negatives.n - negatives.right,
            negatives.right,
            positives.n - positives.right,
        )

    @property
    def recall(self) -> float:
        """Share of the positives called positive."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of those called positive that are: at the set's rate, not the natural one."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return ratio(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def mcc(self) -> float:
        """Matthews' correlation, −1 to 1."""
        tp, fp = self.true_positives, self.false_positives
        tn, fn = self.true_negatives, self.false_negatives
        margins = float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return ratio(tp * tn - fp * fn, float(np.sqrt(margins)))


def auroc(truth: ArrayLike, score: ArrayLike) -> float:
    """Chance that a random positive outranks a random negative, a tie counting one half.

    Raises:
        ValueError: if one of the classes is absent.
    """
    positive = _two_classes(truth)
    _, level, sizes = np.unique(np.asarray(score), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[level]  # from 1; ties share their mean rank
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def auroc_interval(value: float, positives: int, negatives: int, level: float = 0.95) -> Interval:
    """The AUROCs from which ``value`` lies no more than so many standard errors away.

    The standard error is Hanley and McNeil's at the AUROC asked about, not at ``value``, so that
    the interval has a width at 0 and 1 too (Newcombe, 2006, method 5).
    """
    z = float(special.ndtri(0.5 + level / 2))
    more = (positives + negatives) / 2 - 1

    def beyond(area: float) -> float:
        spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * spread / (positives * negatives)
        return float((area - value) ** 2 - z * z * variance)

    # At 0 and at 1 `beyond` has a root of no meaning: the brackets keep clear of it.
    low = 0.0 if value < 1e-6 else float(optimize.brentq(beyond, 0.0, value - 1e-9))
    high = 1.0 if value > 1 - 1e-6 else float(optimize.brentq(beyond, value + 1e-9, 1.0))
    return Interval(value, low, high)


def auprc(truth: ArrayLike, score: ArrayLike) -> float:
    """Average precision: Σ (recall step · precision), items of equal score taken together.

    Raises:
        ValueError: if one of the classes is absent.
    """
    positive, scores = _two_classes(truth), np.asarray(score, dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(positive[order])[last_of_tie]
    taken = np.flatnonzero(last_of_tie) + 1
    return float(np.sum(np.diff(hits, prepend=0) * hits / taken) / positive.sum())


def _two_classes(truth: ArrayLike) -> NDArray[np.bool_]:
    positive = np.asarray(truth, dtype=bool)
    if not positive.any() or positive.all():
        raise ValueError("a rank metric needs positives and negatives")
    return positive
