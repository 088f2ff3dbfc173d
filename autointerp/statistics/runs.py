"""Figures of a whole run: over its latents, its requests and its reruns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from autointerp.statistics.metrics import ratio
from autointerp.statistics.randomness import derived_generator
from autointerp.statistics.rates import Interval


def bootstrap_mean(
    values: ArrayLike,
    groups: Sequence[object],
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Plain mean over latents; percentile interval, resampling latents within hook points.

    Args:
        values: one figure a latent, [n].
        groups: the hook point of each, [n].

    Raises:
        ValueError: if there are no values, or not one group for each.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers) or len(groups) != len(numbers):
        raise ValueError(
            f"{len(numbers)} values with {len(groups)} groups have no mean over groups"
        )
    rng = derived_generator(seed, "bootstrap")
    totals = np.zeros(draws)
    for group in sorted(set(groups), key=str):
        members = numbers[[g == group for g in groups]]
        n = len(members)
        totals += [members[rng.integers(n, size=n)].sum() for _ in range(draws)]
    tail = (1 - level) / 2
    low, high = np.quantile(totals / len(numbers), [tail, 1 - tail])
    return Interval(float(numbers.mean()), float(low), float(high))


@dataclass(frozen=True)
class BetaFit:
    """The distribution of true rates over latents, sampling noise taken out."""

    alpha: float
    beta: float

    @property
    def mean(self) -> float:
        """Mean of the true rates."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def spread(self) -> float:
        """Standard deviation of the true rates."""
        return float(np.sqrt(self.mean * (1 - self.mean) / (self.alpha + self.beta + 1)))

    def quantile(self, q: float) -> float:
        """The rate that a share ``q`` of latents stays below."""
        return float(special.betaincinv(self.alpha, self.beta, q))


def deconvolve(right: ArrayLike, n: ArrayLike) -> BetaFit:
    """Fit a beta-binomial by maximum likelihood: ``right`` of ``n`` items, one pair a latent.

    The concentration alpha + beta is held within e⁻³ … e¹⁰, so that latents without any
    spread give a narrow distribution, not an infinite one.
    """
    from scipy import optimize  # a third of a second, and only reports need it

    k, m = np.asarray(right, dtype=np.float64), np.asarray(n, dtype=np.float64)

    def loss(point: NDArray[np.float64]) -> float:
        mean, size = special.expit(point[0]), np.exp(point[1])
        a, b = mean * size, (1 - mean) * size
        return -float(np.sum(special.betaln(k + a, m - k + b) - special.betaln(a, b)))

    start = [special.logit(np.clip(k.sum() / m.sum(), 0.01, 0.99)), np.log(20.0)]
    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-8, 8), (-3, 10)])
    mean, size = float(special.expit(found.x[0])), float(np.exp(found.x[1]))
    return BetaFit(mean * size, (1 - mean) * size)


def request_correlation(
    right: ArrayLike, truth: ArrayLike, request: ArrayLike, latent: ArrayLike
) -> float:
    """Correlation ρ of the answers within one request, over a whole run's items [n].

    Covariance of two items of one request minus that of two items of one latent in different
    requests, over the variance within latents: what latents have in common does not count.
    0 where no latent has two requests with two items.
    """
    yes, t = np.asarray(right, dtype=np.float64), np.asarray(truth, dtype=bool)
    rates = [yes[t == side].mean() if (t == side).any() else 0.0 for side in (False, True)]
    residual = yes - np.array(rates)[t.astype(int)]
    latents, requests = np.asarray(latent), np.asarray(request)
    both = np.unique(np.stack([latents, requests]), axis=1, return_inverse=True)[1]
    same_sum, same_n = _within(residual, both)
    all_sum, all_n = _within(residual, np.unique(latents, return_inverse=True)[1])
    if not same_n or all_n == same_n:
        return 0.0
    apart = (all_sum - same_sum) / (all_n - same_n)
    within = float(np.mean(residual**2)) - apart
    return (same_sum / same_n - apart) / within if within > 0 else 0.0


def _within(residual: NDArray[np.float64], group: NDArray[Any]) -> tuple[float, float]:
    """Sum of products over ordered pairs of one group, and the number of such pairs."""
    sums = np.bincount(group, weights=residual)
    sizes = np.bincount(group)
    return float(sums @ sums - residual @ residual), float(np.sum(sizes * (sizes - 1)))


def intraclass_correlation(scores: ArrayLike) -> float:
    """ICC(1,1) of scores [latents, reruns]: the share of variance that is the latents' own.

    Raises:
        ValueError: with fewer than two latents or two reruns.
    """
    return intraclass_interval(scores).value


def intraclass_interval(scores: ArrayLike, *, level: float = 0.95) -> Interval:
    """:func:`intraclass_correlation` between the limits that the F distribution gives.

    They are those of P. E. Shrout and J. L. Fleiss, "Intraclass correlations: uses in assessing
    rater reliability", 1979: exact where scores vary normally.

    Raises:
        ValueError: with fewer than two latents or two reruns.
    """
    table = np.asarray(scores, dtype=np.float64)
    n, k = table.shape
    if n < 2 or k < 2:
        raise ValueError("an intra-class correlation needs two latents and two reruns")
    means = table.mean(axis=1)
    between = k * float(means.var(ddof=1))
    within = float(np.sum((table - means[:, None]) ** 2)) / (n * (k - 1))
    above, below = n - 1, n * (k - 1)  # degrees of freedom
    p = (1 + level) / 2
    smaller = between / float(special.fdtri(above, below, p))
    larger = between * float(special.fdtri(below, above, p))
    value, low, high = (ratio(b - within, b + (k - 1) * within) for b in (between, smaller, larger))
    return Interval(value, low, high)
