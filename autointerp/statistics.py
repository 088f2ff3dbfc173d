"""Intervals, rank metrics, sequential tests and run summaries for scores.

Only numpy and scipy. Rates lie in [0, 1]; intervals are two-sided and 95 % unless told
otherwise. "Right" means that a judge's answer equals the truth; a failed item (no usable
answer) counts as wrong in every figure but the best case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


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


def derived_generator(seed: int, *parts: object) -> np.random.Generator:
    """A generator for one purpose: the same for the same seed and parts, whatever ran before."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


# Intervals of rates


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


# Counts and ranks


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
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of those called positive that are: at the set's rate, not the natural one."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return _ratio(2 * self.true_positives, 2 * self.true_positives + wrong)

    @property
    def mcc(self) -> float:
        """Matthews' correlation, −1 to 1."""
        tp, fp = self.true_positives, self.false_positives
        tn, fn = self.true_negatives, self.false_negatives
        margins = float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return _ratio(tp * tn - fp * fn, float(np.sqrt(margins)))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


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


# Sequential scoring: a mixture of bets on matched pairs

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


# Summaries of a run


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

    def loss(point: Floats) -> float:
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


def _within(residual: Floats, group: NDArray[Any]) -> tuple[float, float]:
    """Sum of products over ordered pairs of one group, and the number of such pairs."""
    sums = np.bincount(group, weights=residual)
    sizes = np.bincount(group)
    return float(sums @ sums - residual @ residual), float(np.sum(sizes * (sizes - 1)))


def intraclass_correlation(scores: ArrayLike) -> float:
    """ICC(1,1) of scores [latents, reruns]: the share of variance that is the latents' own.

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
    return _ratio(between - within, between + (k - 1) * within)


@dataclass(frozen=True)
class Stratum:
    """Inactive windows of one kind: their share of all inactive windows, and answers on them."""

    share: float
    negatives: Tally


@dataclass(frozen=True)
class NaturalPrecision:
    """Precision at the rate at which the latent is active; ``identified`` if narrower than ½."""

    interval: Interval
    identified: bool


def natural_precision(
    positives: Tally,
    strata: Sequence[Stratum],
    rate: float,
    *,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> NaturalPrecision:
    """πTPR / (πTPR + (1−π)FPR) with FPR = Σ share · FPR of disjoint strata; Jeffreys draws.

    Args:
        rate: π, the share of windows in which the latent is active.

    Raises:
        ValueError: if the shares do not add up to 1.
    """
    if abs(sum(s.share for s in strata) - 1) > 1e-6:
        raise ValueError("the strata's shares must add up to 1")
    rng = derived_generator(seed, "natural precision")
    found = rate * _jeffreys(rng, positives.right, positives.n, draws)
    false = np.zeros(draws)
    for stratum in strata:
        wrong = stratum.negatives.n - stratum.negatives.right
        false += (1 - rate) * stratum.share * _jeffreys(rng, wrong, stratum.negatives.n, draws)
    tail = (1 - level) / 2
    low, value, high = np.quantile(found / (found + false), [tail, 0.5, 1 - tail]).tolist()
    return NaturalPrecision(Interval(value, low, high), high - low <= 0.5)


def _jeffreys(rng: np.random.Generator, hits: int, n: int, draws: int) -> Floats:
    return rng.beta(hits + 0.5, n - hits + 0.5, size=draws)
