"""Of every vector of one set the nearest of another, block by block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # vectors compared with as many


class Meanings(NamedTuple):
    """One coder's explanations: the latents' indices [n], and unit vectors [n, d]."""

    coder: str
    indices: NDArray[np.int64]
    vectors: NDArray[np.float32]


class Nearest(NamedTuple):
    """Of every vector [n] of one set: where the nearest of the other is, how near, and whether it
    is that one's nearest too; and the mean cosine of any two."""

    places: NDArray[np.int64]
    cosines: NDArray[np.float32]
    mutual: NDArray[np.bool_]
    any_pair: float


def nearest(one: Meanings, other: Meanings, *, same: bool) -> Nearest | None:
    """The nearest in ``other`` of each of ``one``; of equals the first.

    With ``same`` they are the same set, and none is its own nearest; None if it has one alone.
    """
    n, m = len(one.indices), len(other.indices)
    if same and n < 2:
        return None
    forth = _Best(n)
    back = _Best(m)
    total = 0.0
    for low in range(0, n, BLOCK):
        rows = np.asarray(one.vectors[low : low + BLOCK])
        for start in range(0, m, BLOCK):
            cosines = rows @ np.asarray(other.vectors[start : start + BLOCK]).T
            if same and low == start:
                total -= float(np.trace(cosines))
                total += float(cosines.sum(dtype=np.float64))
                np.fill_diagonal(cosines, -np.inf)
            else:
                total += float(cosines.sum(dtype=np.float64))
            forth.offer(low, start, cosines)
            back.offer(start, low, cosines.T)
    mutual = back.places[forth.places] == np.arange(n)
    return Nearest(forth.places, forth.cosines, mutual, total / (n * m - n * same))


class _Best:
    """The best seen so far."""

    def __init__(self, size: int) -> None:
        self.places = np.zeros(size, np.int64)
        self.cosines = np.full(size, -np.inf, np.float32)

    def offer(self, low: int, start: int, cosines: NDArray[np.float32]) -> None:
        """Cosines [r, c] of the vectors from ``low`` on to those from ``start`` on."""
        at = cosines.argmax(1)
        best = cosines[np.arange(len(at)), at]
        held = slice(low, low + len(at))
        better = best > self.cosines[held]
        self.cosines[held][better] = best[better]
        self.places[held][better] = start + at[better]
