"""Correlation of predicted with true values that come in texts: tokens of a text go together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autointerp.statistics.rates import Interval

RESAMPLES = 1000
Series = Sequence[tuple[ArrayLike, ArrayLike]]  # truth and prediction of each text, equally long


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson's correlation; 0 where either side is constant."""
    return float(_correlation(_sums(truth, predicted)))


def pooled_pearson(texts: Series, rng: np.random.Generator) -> Interval:
    """Pearson's correlation over the values of all texts, with a bootstrap over texts.

    Raises:
        ValueError: if there is no text.
    """
    if not texts:
        raise ValueError("no texts to correlate over")
    sums = np.stack([_sums(truth, predicted) for truth, predicted in texts])
    n = len(texts)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    low, high = np.quantile(_correlation(counts @ sums), (0.025, 0.975))
    return Interval(float(_correlation(sums.sum(0))), float(low), float(high))


def affine_fit(truth: ArrayLike, predicted: ArrayLike) -> tuple[float, float]:
    """Offset and slope of the least-squares line from predictions to truth; slope 0 for a
    constant prediction."""
    y, x = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    spread = float(np.square(x - x.mean()).sum())
    slope = float((x - x.mean()) @ (y - y.mean())) / spread if spread > 0 else 0.0
    return float(y.mean()) - slope * float(x.mean()), slope


def r_squared(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the truth's variance that the predictions take away; below 0 if they add to it.

    0 where the truth is constant.
    """
    y, x = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    total = float(np.square(y - y.mean()).sum())
    return 1.0 - float(np.square(y - x).sum()) / total if total > 0 else 0.0


def _sums(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """[6]: number, sums, sums of squares and of products."""
    y, x = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    return np.array([len(y), y.sum(), x.sum(), y @ y, x @ x, y @ x])


def _correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[…] from […, 6]."""
    n, y, x, yy, xx, yx = np.moveaxis(sums, -1, 0)
    n = np.maximum(n, 1)
    spread_y, spread_x = yy - y * y / n, xx - x * x / n
    # Rounding leaves about 1e-16 of the squares where a side is constant.
    varies = (spread_y > 1e-12 * yy) & (spread_x > 1e-12 * xx)
    scale = np.sqrt(np.where(varies, spread_y * spread_x, 1.0))
    return np.asarray(np.where(varies, np.clip((yx - y * x / n) / scale, -1.0, 1.0), 0.0))
