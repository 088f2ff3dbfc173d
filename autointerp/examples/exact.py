"""Sums that do not depend on the order of what is added, nor on who added how much of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ExactSums:
    """Running sums in twice the precision of float64, as ``high`` and what that leaves ``low``.

    What is added in parts and the parts added up has the same ``high`` as what was added at once,
    where the exponents of the numbers are less than about fifty binary places apart.
    Source: Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B.
    """

    def __init__(self, size: int) -> None:
        self.high: NDArray[np.float64] = np.zeros(size)
        self.low: NDArray[np.float64] = np.zeros(size)

    def add(self, values: Any, at: Any = slice(None)) -> None:
        """Add to the sums ``at`` these places, each place once."""
        values = np.asarray(values, np.float64)
        total, error = _two_sum(self.high[at], values)
        self.high[at], self.low[at] = _two_sum(total, self.low[at] + error)


def _two_sum(
    a: NDArray[np.float64], b: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rounded sum and its rounding error: together exactly a + b."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
