"""Counts and ranks against naive formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from autointerp import statistics as s
from autointerp.statistics import Tally

labels_and_scores = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40
).filter(lambda rows: len({truth for truth, _ in rows}) == 2)


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


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.0, 2.0])
def test_intervals_of_auroc_hold_the_truth(apart: float) -> None:
    random, truth = np.random.default_rng(3), ndtr(apart / np.sqrt(2))
    labels = np.repeat([True, False], [40, 50])
    missed = 0
    for _ in range(400):
        value = s.auroc(labels, random.normal(apart * labels, 1))
        interval = s.auroc_interval(value, 40, 50)
        assert interval.low <= value <= interval.high
        missed += not interval.low <= truth <= interval.high
    assert missed <= 32  # of 400; 20 expected


def test_intervals_of_auroc_have_a_width_at_both_ends() -> None:
    low, high = s.auroc_interval(0.0, 30, 20), s.auroc_interval(1.0, 30, 20)
    assert (low.low, high.high) == (0.0, 1.0)
    assert 0.05 < low.high < 0.3
    assert high.low == pytest.approx(1 - low.high, abs=1e-6)
