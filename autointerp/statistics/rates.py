"""Rates of right answers and their intervals.

"Right" means that a judge's answer equals the truth; a failed item (no usable answer) counts as
wrong in every figure but the best case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special


@dataclass(frozen=True)
class Interval:
    """An estimate and the limits of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tally:
    """Items of one kind: how many there are, were answered rightly, and failed."""

    n: int
    right: int
    failed: int = 0

    def __post_init__(self) -> None:
        if min(self.n, self.right, self.failed) < 0 or self.right + self.failed > self.n:
            raise ValueError(f"{self} counts more items than it has")

    @property
    def worst(self) -> float:
        """The rate of right answers if every failure is wrong."""
        return self.right / self.n

    @property
    def best(self) -> float:
        """The rate of right answers if every failure is right."""
        return (self.right + self.failed) / self.n


def design_effect(correlation: float, items_per_request: float) -> float:
    """How much k items of one request inflate the variance: 1 + (k − 1)ρ, at least 1."""
    return 1.0 + max(0.0, items_per_request - 1.0) * max(0.0, correlation)


def wilson(tally: Tally, *, level: float = 0.95, design_effect: float = 1.0) -> Interval:
    """Wilson's score interval of a rate, on n / ``design_effect`` effective items.

    Raises:
        ValueError: if there are no items.
    """
    if tally.n == 0:
        raise ValueError("no items: a rate has no interval")
    n, p = tally.n / design_effect, tally.worst
    z2 = float(special.ndtri(0.5 + level / 2)) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def balanced_accuracy(
    positives: Tally, *negatives: Tally, level: float = 0.95, design_effect: float = 1.0
) -> Interval:
    """(recall + mean specificity over the sources in ``negatives``) / 2, MOVER–Wilson interval.

    MOVER (method of variance estimates recovery) adds the squared distances from each rate to
    its Wilson limit, weighted as the rates are (Zou and Donner, 2008).

    Raises:
        ValueError: if a tally is empty or no negatives are given.
    """
    if not negatives:
        raise ValueError("balanced accuracy needs negatives")
    rates = [wilson(t, level=level, design_effect=design_effect) for t in (positives, *negatives)]
    weights = np.array([0.5] + [0.5 / len(negatives)] * len(negatives))
    value, low, high = weights @ np.array([[r.value, r.low, r.high] for r in rates])
    below = weights * np.array([r.value - r.low for r in rates])
    above = weights * np.array([r.high - r.value for r in rates])
    low, high = value - np.sqrt(below @ below), value + np.sqrt(above @ above)
    return Interval(float(value), float(max(low, 0.0)), float(min(high, 1.0)))


def failure_bounds(positives: Tally, *negatives: Tally) -> tuple[float, float]:
    """Balanced accuracy if every failed item were wrong, and if every one were right."""
    n = len(negatives)
    worst = (positives.worst + sum(t.worst for t in negatives) / n) / 2
    best = (positives.best + sum(t.best for t in negatives) / n) / 2
    return worst, best
