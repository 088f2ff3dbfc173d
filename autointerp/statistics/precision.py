"""Precision at the rate at which a latent is active, from answers on chosen windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from autointerp.statistics.randomness import derived_generator
from autointerp.statistics.rates import Interval, Tally


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
    found = rate * _jeffreys(positives.right, positives.n, draws, seed, 0)
    false = np.zeros(draws)
    for place, stratum in enumerate(strata, start=1):
        negatives = stratum.negatives
        wrong = _jeffreys(negatives.n - negatives.right, negatives.n, draws, seed, place)
        false += (1 - rate) * stratum.share * wrong
    tail = (1 - level) / 2
    low, value, high = np.quantile(found / (found + false), [tail, 0.5, 1 - tail]).tolist()
    return NaturalPrecision(Interval(value, low, high), high - low <= 0.5)


@lru_cache(maxsize=1024)  # latents share few counts, and drawing costs more than all the rest
def _jeffreys(hits: int, n: int, draws: int, seed: int, place: int) -> NDArray[np.float64]:
    """[draws] of a rate's posterior under Jeffreys' prior, for each place of their own."""
    rng = derived_generator(seed, "natural precision", place)
    drawn = rng.beta(hits + 0.5, n - hits + 0.5, size=draws)
    drawn.flags.writeable = False
    return drawn
