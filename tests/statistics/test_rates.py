"""Intervals of rates against exact sums and simulations, small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp import statistics as s
from autointerp.statistics import Tally


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    n = draw(st.integers(1, 80))
    right = draw(st.integers(0, n))
    return Tally(n, right, draw(st.integers(0, n - right)))


@given(tallies())
def test_wilson_limits_are_the_rates_that_a_score_test_just_keeps(tally: Tally) -> None:
    interval = s.wilson(tally)
    p, z = tally.worst, stats.norm.ppf(0.975)
    for limit in (interval.low, interval.high):
        if 1e-9 < limit < 1 - 1e-9:
            assert abs(p - limit) / np.sqrt(limit * (1 - limit) / tally.n) == pytest.approx(z)
    assert interval.low <= p <= interval.high


def test_wilson_equals_scipys() -> None:
    ours = s.wilson(Tally(50, 38), level=0.9)
    theirs = stats.binomtest(38, 50).proportion_ci(0.9, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_a_design_effect_is_worth_fewer_items() -> None:
    deflated = s.wilson(Tally(100, 80), design_effect=s.design_effect(0.25, 5))
    plain = s.wilson(Tally(50, 40))
    assert (deflated.low, deflated.high) == pytest.approx((plain.low, plain.high))
    assert s.design_effect(-0.3, 5) == 1.0


def test_no_items_and_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no items"):
        s.wilson(Tally(0, 0))
    with pytest.raises(ValueError, match="more items"):
        Tally(3, 2, 2)
    with pytest.raises(ValueError, match="needs negatives"):
        s.balanced_accuracy(Tally(1, 1))


@given(tallies(), tallies())
def test_balanced_accuracy_is_the_mean_rate_inside_its_interval(p: Tally, n: Tally) -> None:
    interval = s.balanced_accuracy(p, n)
    assert interval.value == pytest.approx((p.worst + n.worst) / 2)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    worst, best = s.failure_bounds(p, n)
    assert worst == pytest.approx(interval.value)
    assert best >= worst


def test_hard_negatives_weigh_by_source_not_by_items() -> None:
    interval = s.balanced_accuracy(Tally(10, 10), Tally(10, 10), Tally(90, 0))
    assert interval.value == pytest.approx(0.75)


@pytest.mark.parametrize("recall", [0.5, 0.76, 0.95])
@pytest.mark.parametrize("specificity", [0.6, 0.76, 0.9])
def test_mover_covers_as_it_claims_at_50_and_50(recall: float, specificity: float) -> None:
    """Exact: summed over all outcomes, not simulated."""
    n, truth, covered = 50, (recall + specificity) / 2, 0.0
    p_recall = stats.binom.pmf(np.arange(n + 1), n, recall)
    p_specificity = stats.binom.pmf(np.arange(n + 1), n, specificity)
    for i in np.flatnonzero(p_recall > 1e-5):
        for j in np.flatnonzero(p_specificity > 1e-5):
            interval = s.balanced_accuracy(Tally(n, int(i)), Tally(n, int(j)))
            if interval.low <= truth <= interval.high:
                covered += p_recall[i] * p_specificity[j]
    assert 0.92 <= covered <= 0.98


def test_mover_half_width_at_the_published_rate() -> None:
    interval = s.balanced_accuracy(Tally(50, 38), Tally(50, 38))
    assert (interval.high - interval.low) / 2 == pytest.approx(0.081, abs=0.002)


def test_the_design_effect_repairs_what_requests_break() -> None:
    """Five items a request, correlation .2: the plain interval misses 16 %."""
    rng, rho, rate = np.random.default_rng(0), 0.2, 0.76
    size = (1 - rho) / rho
    rates = rng.beta(rate * size, (1 - rate) * size, size=(800, 20))
    rights = rng.binomial(5, rates).reshape(800, 2, 10).sum(axis=2)

    def misses(effect: float) -> float:
        intervals = [
            s.balanced_accuracy(Tally(50, int(p)), Tally(50, int(n)), design_effect=effect)
            for p, n in rights
        ]
        return float(np.mean([not i.low <= rate <= i.high for i in intervals]))

    assert misses(1.0) > 0.11
    assert misses(s.design_effect(rho, 5)) < 0.08
