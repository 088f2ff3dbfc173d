"""How far to steer: the strength at which next tokens change by a wanted amount."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

GRID = np.logspace(-3, 2, 12)  # of the size of what is added over that of what it is added to
FINER = np.logspace(-10, -4, 7)  # for targets that the grid's first point exceeds
BLOCK = 4  # grid points measured at once: later ones are seldom needed
WITHIN = 0.05  # of the target: what counts as reached
CLOSE = 0.03  # what is searched for: leaves room for the rounding of another batch
SECANTS, STEPS = 8, 40  # steps by secant at most, and in all: halving ends within these
_LEAST = 1e-12  # stands for a KL of zero, whose logarithm there is none of

Measure = Callable[[Sequence[float]], Awaitable[list[float]]]


@dataclass(frozen=True)
class Strength:
    """How far to steer along a direction, and what that does.

    ``s`` multiplies the direction: units of activation. ``kl`` is the mean over the prompts of
    KL(clean ‖ steered) of next tokens, in nats: the one reached or, where the target is not
    ``reachable``, the largest of the grid. ``ratio`` is ‖δ‖/‖x‖, the size of what is added over
    that of what it is added to, at the last prompt token.
    """

    s: float
    kl: float
    reachable: bool
    ratio: float = 0.0


@dataclass(frozen=True)
class _Point:
    ratio: float
    kl: float

    def over(self, target: float) -> float:
        """The logarithm of how far the KL is above the target."""
        return math.log(max(self.kl, _LEAST) / target)

    def strength(self, unit: float, reachable: bool) -> Strength:
        return Strength(self.ratio * unit, self.kl, reachable, self.ratio)


async def search(measure: Measure, unit: float, target: float) -> Strength:
    """Find the first strength on the way up whose KL is within a few percent of ``target``.

    A grid over the ratio ‖δ‖/‖x‖ finds the first interval in which the target is crossed;
    secants of log KL over log ratio find the place in it, and halving wherever a secant leaves
    the interval or takes long.

    Args:
        measure: mean KL, in nats, at each of some ratios.
        unit: the strength at which the ratio is 1.
        target: the wanted mean KL, in nats.
    """
    points: list[_Point] = []
    for start in range(0, len(GRID), BLOCK):
        points += await _points(measure, GRID[start : start + BLOCK].tolist())
        if points[0].kl >= target:
            points = await _points(measure, FINER.tolist()) + points
        crossed = next((i for i, p in enumerate(points) if p.kl >= target), None)
        if crossed is not None and crossed > 0:
            found = await _close_in(measure, points[crossed - 1], points[crossed], target)
            return found.strength(unit, abs(found.kl / target - 1) <= WITHIN)
    return max(points, key=lambda p: p.kl).strength(unit, reachable=False)


async def _points(measure: Measure, ratios: Sequence[float]) -> list[_Point]:
    """KLs at ratios; one that is no number (half precision overflows) crosses nothing."""
    kls = await measure(ratios)
    return [_Point(r, k if math.isfinite(k) else 0.0) for r, k in zip(ratios, kls, strict=True)]


async def _close_in(measure: Measure, low: _Point, high: _Point, target: float) -> _Point:
    """A point between two whose KLs are below and above the target."""
    before, last = low, high
    for step in range(STEPS):
        if abs(last.kl / target - 1) <= CLOSE:
            break
        ratio = _secant(before, last, target) if step < SECANTS else math.nan
        if not low.ratio < ratio < high.ratio:
            ratio = math.sqrt(low.ratio * high.ratio)
        (point,) = await _points(measure, [ratio])
        low, high = (low, point) if point.kl >= target else (point, high)
        before, last = last, point
    return last


def _secant(before: _Point, last: _Point, target: float) -> float:
    """Where the line through two points, in log KL over log ratio, meets the target."""
    rise = last.over(target) - before.over(target)
    if rise == 0:
        return math.nan
    run = math.log(last.ratio / before.ratio)
    return last.ratio * math.exp(-last.over(target) * run / rise)
