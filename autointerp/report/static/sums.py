"""Running figures of constant size: means, histograms, correlations, samples, the best few."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import sqrt
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")
BINS = 80  # of histograms, from -1 to 1
BIN = 2 / BINS
_ROUNDING = 1e-9  # 0.7 is a little less than 28 bins


@dataclass
class Mean:
    """A mean and how many values it is of."""

    n: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value

    @property
    def value(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass
class Histogram:
    """Counts of values in equal bins from -1 to 1, those beyond in the outermost; and the mean."""

    counts: list[int] = field(default_factory=lambda: [0] * BINS)
    mean: Mean = field(default_factory=Mean)

    def add(self, value: float) -> None:
        self.mean.add(value)
        self.counts[min(BINS - 1, max(0, int((value + 1) / BIN + _ROUNDING)))] += 1


@dataclass
class Correlation:
    """Pearson's correlation of pairs, by Welford's updates."""

    n: int = 0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _yy: float = 0.0
    _xy: float = 0.0

    def add(self, x: float, y: float) -> None:
        self.n += 1
        dx, dy = x - self._x, y - self._y
        self._x += dx / self.n
        self._y += dy / self.n
        self._xx += dx * (x - self._x)
        self._yy += dy * (y - self._y)
        self._xy += dx * (y - self._y)

    @property
    def value(self) -> float | None:
        """None where one of the two does not vary."""
        spread = sqrt(self._xx * self._yy)
        return max(-1.0, min(1.0, self._xy / spread)) if spread > 0 else None


class Sample(Generic[T]):
    """A uniform sample of at most ``size`` items of a stream of unknown length."""

    def __init__(self, size: int, seed: int) -> None:
        self.items: list[T] = []
        self.of = 0
        self._size = size
        self._random = Random(seed)

    def add(self, item: T) -> None:
        self.of += 1
        if len(self.items) < self._size:
            self.items.append(item)
        elif (place := self._random.randrange(self.of)) < self._size:
            self.items[place] = item


class Best(Generic[T]):
    """The ``size`` items with the highest keys; of equals, those that came first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, ...], int, T]] = []
        self._order = count(0, -1)

    def add(self, key: tuple[float, ...], item: T) -> None:
        entry = (key, next(self._order), item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def __iter__(self) -> Iterator[T]:
        """Highest first."""
        return (item for _, _, item in sorted(self._heap, reverse=True))
