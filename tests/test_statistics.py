"""The figures against naive formulas, and the simulations behind the intervals, small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from autointerp import statistics as s
from autointerp.statistics import Tally

labels_and_scores = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40
).filter(lambda rows: len({truth for truth, _ in rows}) == 2)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    n = draw(st.integers(1, 80))
    right = draw(st.integers(0, n))
    return Tally(n, right, draw(st.integers(0, n - right)))


# Rates


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


# Counts and ranks


def test_confusion_figures() -> None:
    c = s.Confusion.of(Tally(10, 8), Tally(20, 14))
    truth = np.repeat([1, 1, 0, 0], [8, 2, 6, 14])
    label = np.repeat([1, 0, 1, 0], [8, 2, 6, 14])
    assert (c.recall, c.precision) == pytest.approx((0.8, 8 / 14))
    assert c.f1 == pytest.approx(2 * c.precision * c.recall / (c.precision + c.recall))
    assert c.mcc == pytest.approx(np.corrcoef(truth, label)[0, 1])


def test_ratios_without_a_denominator_are_zero() -> None:
    c = s.Confusion(0, 0, 10, 0)
    assert (c.recall, c.precision, c.f1, c.mcc) == (0, 0, 0, 0)


@given(labels_and_scores)
def test_auroc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    truth, score = zip(*rows, strict=True)
    above = [(p > n) + (p == n) / 2 for t, p in rows if t for u, n in rows if not u]
    assert s.auroc(truth, score) == pytest.approx(np.mean(above))


@given(labels_and_scores)
def test_auprc_is_the_average_precision_over_thresholds(rows: list[tuple[bool, int]]) -> None:
    truth, score = (np.array(column) for column in zip(*rows, strict=True))
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        taken = score >= threshold
        recall = truth[taken].sum() / truth.sum()
        expected += (recall - recall_before) * truth[taken].mean()
        recall_before = recall
    assert s.auprc(truth, score) == pytest.approx(expected)


def test_rank_metrics_need_both_classes() -> None:
    with pytest.raises(ValueError, match="positives and negatives"):
        s.auroc([True, True], [1, 2])
    with pytest.raises(ValueError, match="positives and negatives"):
        s.auprc([False], [1])


# Sequential scoring


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


# Runs


def test_bootstrap_resamples_within_hook_points() -> None:
    values, groups = [0.2] * 30 + [0.8] * 10, ["a"] * 30 + ["b"] * 10
    interval = s.bootstrap_mean(values, groups)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.35, 0.35, 0.35))


def test_bootstrap_is_seeded_ordered_by_nothing_and_as_wide_as_the_normal_one() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.7, 0.1, 100)
    interval = s.bootstrap_mean(values, ["a"] * 100, seed=1)
    half = 1.96 * values.std() / 10
    assert interval.low == pytest.approx(values.mean() - half, abs=0.004)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.004)
    assert s.bootstrap_mean(values, ["a"] * 100, seed=1) == interval
    assert s.bootstrap_mean(values, ["a"] * 100, seed=2) != interval
    with pytest.raises(ValueError, match="no mean"):
        s.bootstrap_mean([], [])


def test_deconvolution_takes_the_sampling_noise_out() -> None:
    rng = np.random.default_rng(5)
    rates = rng.beta(15, 5, 600)
    observed = rng.binomial(100, rates)
    fit = s.deconvolve(observed, np.full(600, 100))
    assert fit.mean == pytest.approx(0.75, abs=0.01)
    assert fit.spread == pytest.approx(rates.std(), abs=0.008)
    assert fit.spread < (observed / 100).std()
    assert fit.quantile(0.5) == pytest.approx(np.median(rates), abs=0.02)
    assert s.deconvolve(np.full(50, 75), np.full(50, 100)).spread < 0.02


def test_request_correlation_is_found_beside_differences_between_latents() -> None:
    rng, latents, requests, k, rho = np.random.default_rng(6), 300, 20, 5, 0.2
    base = rng.uniform(0.6, 0.9, size=(latents, 1))
    size = (1 - rho) / rho
    rates = rng.beta(base * size, (1 - base) * size, size=(latents, requests))
    right = (rng.random((latents, requests, k)) < rates[..., None]).ravel()
    request = np.tile(np.repeat(np.arange(requests), k), latents)
    latent = np.repeat(np.arange(latents), requests * k)
    truth = rng.random(len(right)) < 0.5
    assert s.request_correlation(right, truth, request, latent) == pytest.approx(rho, abs=0.03)
    shuffled = rng.permuted(right.reshape(latents, -1), axis=1).ravel()
    assert s.request_correlation(shuffled, truth, request, latent) == pytest.approx(0, abs=0.02)


def test_request_correlation_without_pairs_is_zero() -> None:
    assert s.request_correlation([1, 0], [1, 0], [0, 1], [0, 0]) == 0.0
    assert s.request_correlation([1, 0], [1, 0], [0, 0], [0, 0]) == 0.0


def test_intraclass_correlation() -> None:
    rng = np.random.default_rng(7)
    own = rng.normal(0, 2, size=(2000, 1))
    assert s.intraclass_correlation(own + rng.normal(0, 1, (2000, 3))) == pytest.approx(
        0.8, abs=0.02
    )
    assert s.intraclass_correlation([[1, 1], [2, 2]]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two reruns"):
        s.intraclass_correlation([[1.0], [2.0]])


def test_precision_at_the_natural_rate() -> None:
    strata = [s.Stratum(0.1, Tally(1000, 800)), s.Stratum(0.9, Tally(1000, 990))]
    found = s.natural_precision(Tally(1000, 800), strata, 0.02)
    false_rate = 0.1 * 0.2 + 0.9 * 0.01
    expected = 0.02 * 0.8 / (0.02 * 0.8 + 0.98 * false_rate)
    assert found.interval.value == pytest.approx(expected, abs=0.01)
    assert found.interval.low < expected < found.interval.high
    assert found.identified


def test_precision_is_not_identified_where_the_rare_stratum_is_unseen() -> None:
    strata = [s.Stratum(0.1, Tally(0, 0)), s.Stratum(0.9, Tally(10, 10))]
    assert not s.natural_precision(Tally(10, 8), strata, 0.02).identified
    with pytest.raises(ValueError, match="add up to 1"):
        s.natural_precision(Tally(10, 8), strata[:1], 0.02)


def test_derived_generators_depend_on_every_part() -> None:
    def draw(*parts: object) -> float:
        return float(s.derived_generator(0, *parts).random())

    assert draw("a", 1) == draw("a", 1)
    assert len({draw("a", 1), draw("a", 2), draw("b", 1), draw("a1")}) == 4
