"""Precision at the natural rate, of strata whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from autointerp import statistics as s
from autointerp.statistics import Tally

BACKGROUND = 1638  # TEST windows of a background of 4,096


def test_precision_at_the_natural_rate() -> None:
    strata = [s.Stratum(10_000, Tally(1000, 800)), s.Stratum(90_000, Tally(1000, 990))]
    found = s.natural_precision(Tally(1000, 800), strata, 2000, 100_000)
    false_rate = 0.1 * 0.2 + 0.9 * 0.01
    expected = 0.02 * 0.8 / (0.02 * 0.8 + 0.98 * false_rate)
    assert found.interval.value == pytest.approx(expected, abs=0.01)
    assert found.interval.low < expected < found.interval.high
    assert found.identified


def test_precision_is_not_identified_where_the_rare_stratum_is_unseen() -> None:
    strata = [s.Stratum(160, Tally(0, 0)), s.Stratum(1440, Tally(10, 10))]
    assert not s.natural_precision(Tally(10, 8), strata, 32, 1632).identified
    with pytest.raises(ValueError, match="no inactive windows"):
        s.natural_precision(Tally(10, 8), [s.Stratum(0, Tally(0, 0))], 32, 32)


def test_a_stratum_without_windows_and_answers_changes_nothing() -> None:
    strata = [s.Stratum(100, Tally(50, 40)), s.Stratum(1500, Tally(50, 50))]
    with_empty = [*strata, s.Stratum(0, Tally(0, 0))]
    one, other = (s.natural_precision(Tally(50, 40), of, 40, 1640) for of in (strata, with_empty))
    assert one == other


def missed(rate: float, shares: Sequence[float], false: Sequence[float], judged: int) -> float:
    """How often the limits leave out the truth; a judge that answers about ``judged`` windows of
    each stratum, or about all of the background if 0."""
    rng, runs, wrong = np.random.default_rng(0), 400, 0
    truth = rate * 0.9 / (rate * 0.9 + (1 - rate) * np.dot(shares, false))
    for _ in range(runs):
        active = int(rng.binomial(BACKGROUND, rate))
        windows = rng.multinomial(BACKGROUND - active, shares).tolist()
        asked = [judged or n for n in windows]
        strata = [
            s.Stratum(n, Tally(k, k - int(rng.binomial(k, p))))
            for n, k, p in zip(windows, asked, false, strict=True)
        ]
        positives = Tally(50, int(rng.binomial(50, 0.9)))
        found = s.natural_precision(positives, strata, active, BACKGROUND, draws=2000).interval
        wrong += not found.low <= truth <= found.high
    return wrong / runs


@pytest.mark.parametrize(("rate", "false"), [(0.003, 0.002), (0.01, 0.005), (0.05, 0.02)])
def test_the_limits_hold_though_the_rate_is_an_estimate(rate: float, false: float) -> None:
    assert missed(rate, [1.0], [false], judged=0) <= 0.07


def test_the_limits_hold_though_shares_of_rare_strata_are_estimates() -> None:
    assert missed(0.05, [0.005, 0.01, 0.985], [0.6, 0.05, 0.001], judged=60) <= 0.1
