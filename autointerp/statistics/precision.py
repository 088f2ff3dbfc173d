"""Precision at the rate at which a latent is active, from answers on chosen windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.randomness import derived_generator
from autointerp.statistics.rates import Interval, Tally

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stratum:
    """Inactive windows of one kind: how many a random sample has, and answers on such windows."""

    windows: int
    negatives: Tally


@dataclass(frozen=True)
class NaturalPrecision:
    """Precision at the rate at which the latent is active; ``identified`` if narrower than ½."""

    interval: Interval
    identified: bool


def natural_precision(
    positives: Tally,
    strata: Sequence[Stratum],
    active: int,
    windows: int,
    *,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> NaturalPrecision:
    """πTPR / (πTPR + (1−π)FPR) with FPR = Σ share · FPR of disjoint strata.

    π, TPR, every FPR and the shares are drawn from their posteriors under Jeffreys' priors, since
    all of them are estimates. A stratum without windows and without answers has no share.

    Args:
        active: of ``windows`` random ones, in how many the latent is active: what tells π.

    Raises:
        ValueError: if no stratum has windows or answers.
    """
    known = {
        place: stratum
        for place, stratum in enumerate(strata)
        if stratum.windows or stratum.negatives.n
    }
    if not known:
        raise ValueError("no inactive windows: precision has no false alarms to count")
    rate = _rate(active, windows, draws, seed, "active")
    found = rate * _rate(positives.right, positives.n, draws, seed, "positives")
    false, weights = np.zeros(draws), np.zeros(draws)
    for place, stratum in known.items():
        negatives = stratum.negatives
        wrong = _rate(negatives.n - negatives.right, negatives.n, draws, seed, f"false {place}")
        weight = _weight(stratum.windows, draws, seed, place)
        false += weight * wrong
        weights += weight
    false *= (1 - rate) / weights
    ordered = np.sort(found / (found + false))  # np.quantile takes fifteen times as long
    tail = (1 - level) / 2
    low, value, high = (float(ordered[round(q * (draws - 1))]) for q in (tail, 0.5, 1 - tail))
    return NaturalPrecision(Interval(value, low, high), high - low <= 0.5)


@lru_cache(maxsize=1024)  # latents share few counts, and drawing costs more than all the rest
def _rate(hits: int, n: int, draws: int, seed: int, what: str) -> Floats:
    """[draws] of a rate's posterior, of its own for each thing that it is the rate of."""
    rng = derived_generator(seed, "natural precision", what)
    drawn = rng.beta(hits + 0.5, n - hits + 0.5, size=draws)
    drawn.flags.writeable = False
    return drawn


@lru_cache(maxsize=1024)
def _weight(windows: int, draws: int, seed: int, place: int) -> Floats:
    """[draws] of a stratum's weight: divided by their sum, those of all have the posterior of the
    shares, a Dirichlet distribution."""
    rng = derived_generator(seed, "natural precision", f"share {place}")
    drawn = rng.standard_gamma(windows + 0.5, size=draws)
    drawn.flags.writeable = False
    return drawn
