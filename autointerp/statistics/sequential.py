"""Sequential scoring: a mixture of bets on matched pairs, valid whenever one stops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from autointerp.statistics.rates import Interval

Floats = NDArray[np.float64]


_BETS = np.array([0.08, 0.16, 0.3, 0.55, 0.95])
_GRID = np.arange(1, 200) / 200


def _log_growth(mean: Floats, bets: Floats) -> Floats:
    """Log of a bet's growth after a pair worth 0, ½ and 1; ``bets`` is λ, [bets, grid]."""
    worths = np.array([0.0, 0.5, 1.0])[:, None, None]
    return np.asarray(np.log1p(bets * (worths - mean)))


def _upward(mean: Floats) -> Floats:
    return np.asarray(_BETS[:, None] / mean)


_TWO_SIDED = _log_growth(_GRID, np.concatenate([_upward(_GRID), -_upward(1 - _GRID)]))


def _log_wealth(counts: Floats, growth: Floats) -> Floats:
    """Log of the bets' mean wealth at each mean tried. counts [3]; growth [3, bets, grid]."""
    wealth = np.tensordot(counts, growth, axes=1)
    return np.asarray(special.logsumexp(wealth, axis=0) - np.log(len(wealth)))


def pair_counts(positives: Sequence[bool], negatives: Sequence[bool]) -> Floats:
    """Number of matched pairs worth 0, ½ and 1: (positive right + negative right) / 2.

    Raises:
        ValueError: if the two are not equally long.
    """
    pairs = zip(positives, negatives, strict=True)
    worths = np.array([int(p) + int(n) for p, n in pairs], dtype=np.int64)
    return np.bincount(worths, minlength=3).astype(np.float64)


def betting_interval(
    pessimistic: ArrayLike, optimistic: ArrayLike | None = None, *, alpha: float = 0.05
) -> Interval:
    """The means that a mixture of bets has not ruled out, from pair counts (worth 0, ½, 1).

    The lower limit comes from ``pessimistic`` counts (failures wrong), the upper from
    ``optimistic`` ones (failures right). By Ville's inequality the limits hold at every look at
    once. A limit on the grid's end is opened to 0 or 1, for the means beyond the grid.
    """
    low_counts = np.asarray(pessimistic, dtype=np.float64)
    high_counts = low_counts if optimistic is None else np.asarray(optimistic, dtype=np.float64)
    limit = -np.log(alpha)
    low = int(np.argmax(_log_wealth(low_counts, _TWO_SIDED) < limit))
    high = int(np.flatnonzero(_log_wealth(high_counts, _TWO_SIDED) < limit)[-1])
    n = low_counts.sum()
    return Interval(
        float(low_counts @ [0.0, 0.5, 1.0] / n) if n else 0.5,
        0.0 if low == 0 else float(_GRID[low]),
        1.0 if high == len(_GRID) - 1 else float(_GRID[high]),
    )


class ConfidenceSequence:
    """Balanced accuracy watched block by block; its limits are valid whenever one stops.

    Every block must have the same mix of strata. Limits are intersected over looks.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha = alpha
        self._pessimistic = np.zeros(3)
        self._optimistic = np.zeros(3)
        self.interval = Interval(0.5, 0.0, 1.0)

    @property
    def pairs(self) -> list[int]:
        """How many pairs so far are worth 0, ½ and 1, failures being wrong."""
        return [int(count) for count in self._pessimistic]

    def add_block(
        self, positives: Sequence[bool | None], negatives: Sequence[bool | None]
    ) -> Interval:
        """Take in a block of equally many items of each side: right, wrong, or None if failed.

        Limits that cross (at most ``alpha`` of sequences) become the point halfway between.
        """
        self._pessimistic += pair_counts(
            [r is True for r in positives], [r is True for r in negatives]
        )
        self._optimistic += pair_counts(
            [r is not False for r in positives], [r is not False for r in negatives]
        )
        now = betting_interval(self._pessimistic, self._optimistic, alpha=self.alpha)
        low, high = max(now.low, self.interval.low), min(now.high, self.interval.high)
        if low > high:
            low = high = (low + high) / 2
        self.interval = Interval(now.value, low, high)
        return self.interval


def e_value(counts: ArrayLike, mean: float) -> float:
    """Evidence that the true mean exceeds ``mean``, from pair counts (worth 0, ½, 1).

    Its expectation is at most 1 if the true mean does not exceed ``mean``.
    """
    at = np.array([mean])
    wealth = _log_wealth(np.asarray(counts, dtype=np.float64), _log_growth(at, _upward(at)))
    return float(np.exp(wealth[0]))


def e_bh(e_values: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Benjamini–Hochberg on e-values: discoveries at false-discovery rate ``rate``.

    Valid under any dependence between them (Wang and Ramdas, 2022).
    """
    values = np.asarray(e_values, dtype=np.float64)
    if not len(values):
        return np.zeros(0, dtype=bool)
    descending = np.sort(values)[::-1]
    thresholds = len(values) / (rate * np.arange(1, len(values) + 1))
    passed = np.flatnonzero(descending >= thresholds)
    if not len(passed):
        return np.zeros(len(values), dtype=bool)
    return np.asarray(values >= descending[passed[-1]])
