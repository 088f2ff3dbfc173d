"""Bets against a naive sum, and how often what they say is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp import statistics as s


def naive_wealth(c: tuple[int, int, int], m: float) -> float:
    total = 0.0
    for f in (0.08, 0.16, 0.3, 0.55, 0.95):
        for bet in (f / m, -f / (1 - m)):
            steps = (1 - bet * m), (1 + bet * (0.5 - m)), (1 + bet * (1 - m))
            total += steps[0] ** c[0] * steps[1] ** c[1] * steps[2] ** c[2]
    return total / 10


@given(st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(0, 25)))
@settings(max_examples=30)
def test_betting_interval_is_the_set_of_means_not_ruled_out(c: tuple[int, int, int]) -> None:
    kept = [k / 200 for k in range(1, 200) if naive_wealth(c, k / 200) < 20]
    interval = s.betting_interval(c)
    assert interval.low == (0.0 if kept[0] == 0.005 else kept[0])
    assert interval.high == (1.0 if kept[-1] == 0.995 else kept[-1])


@pytest.mark.parametrize(
    ("recalls", "specificity"),
    [([0.76] * 5, 0.76), ([0.5, 0.7, 0.9, 0.98, 1.0], 0.9), ([0.995] * 5, 0.998)],
    ids=["typical", "unequal deciles", "near 1"],
)
def test_the_sequence_hardly_ever_misses(recalls: list[float], specificity: float) -> None:
    """Ten looks after blocks of 5 + 5, one positive of each decile group in every block."""
    rng, truth = np.random.default_rng(1), (np.mean(recalls) + specificity) / 2
    missed, runs = 0, 300
    for _ in range(runs):
        sequence = s.ConfidenceSequence()
        intervals = [
            sequence.add_block(
                (rng.random(5) < recalls).tolist(), (rng.random(5) < specificity).tolist()
            )
            for _ in range(10)
        ]
        missed += any(not i.low <= truth <= i.high for i in intervals)
    assert missed / runs <= 0.05


def test_the_sequence_only_narrows_and_failures_widen_it() -> None:
    clean, failing = s.ConfidenceSequence(), s.ConfidenceSequence()
    before = clean.interval
    for _ in range(6):
        after = clean.add_block([True] * 5, [True, True, True, True, False])
        failing.add_block([True] * 4 + [None], [True, True, True, True, False])
        assert before.low <= after.low <= after.high <= before.high
        before = after
    assert clean.interval.low > failing.interval.low
    assert clean.interval.high == failing.interval.high
    assert clean.interval.value == pytest.approx(0.9)


def test_limits_that_cross_become_a_point() -> None:
    sequence = s.ConfidenceSequence()
    for right in [True] * 20 + [False] * 60:
        sequence.add_block([right] * 5, [right] * 5)
    assert sequence.interval.low == sequence.interval.high


def test_pairs_need_a_match() -> None:
    assert s.pair_counts([True, True, False], [True, False, False]).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="zip"):
        s.pair_counts([True], [])


def test_an_e_value_is_worth_one_at_the_null_and_grows_beyond_it() -> None:
    rng = np.random.default_rng(2)
    null = rng.multinomial(20, [0.09, 0.42, 0.49], size=4000)
    assert np.mean([s.e_value(c, 0.7) for c in null]) < 1.15
    assert s.e_value([0, 5, 45], 0.7) > 1000
    assert s.e_value([45, 5, 0], 0.7) < 1


def test_e_bh_keeps_the_false_discovery_rate_and_finds_the_true_ones() -> None:
    rng, false_shares = np.random.default_rng(3), []
    for _ in range(40):
        good = [s.e_value(c, 0.7) for c in rng.multinomial(50, [0.01, 0.14, 0.85], size=20)]
        bad = [s.e_value(c, 0.7) for c in rng.multinomial(50, [0.09, 0.42, 0.49], size=40)]
        found = s.e_bh(good + bad)
        false_shares.append(found[20:].sum() / max(1, found.sum()))
        assert found[:20].sum() >= 10
    assert np.mean(false_shares) <= 0.05
    assert s.e_bh([]).tolist() == []
    assert s.e_bh([1.0, 2.0]).tolist() == [False, False]
    assert s.e_bh([50.0, 25.0, 1.0], 0.1).tolist() == [True, True, False]
