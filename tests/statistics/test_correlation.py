"""Correlation of texts' values against scipy and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from autointerp.statistics import affine_fit, pearson, pooled_pearson, r_squared

values = st.lists(st.integers(-50, 50).map(lambda x: x / 10), min_size=2, max_size=30)


@given(values)
def test_pearson_is_scipys_and_0_for_a_constant(truth: list[float]) -> None:
    predicted = np.random.default_rng(len(truth)).normal(size=len(truth)).round(2)
    expected = 0.0 if len(set(truth)) == 1 else stats.pearsonr(truth, predicted)[0]
    assert pearson(truth, predicted) == pytest.approx(expected, abs=1e-9)
    assert pearson(truth, [3.3] * len(truth)) == 0


def test_a_constant_of_large_values_stays_a_constant() -> None:
    assert pearson([0.1] * 1000, range(1000)) == 0
    assert pearson(range(1000), [1e6 / 3] * 1000) == 0


def test_the_interval_resamples_whole_texts() -> None:
    """Copies of a text's values tell nothing new: the interval stays as wide."""
    rng = np.random.default_rng(1)
    texts = [(rng.normal(size=8), rng.normal(size=8)) for _ in range(12)]
    texts = [(truth, truth + noise) for truth, noise in texts]
    copied = [(np.tile(t, 9), np.tile(p, 9)) for t, p in texts]
    one = pooled_pearson(texts, np.random.default_rng(0))
    many = pooled_pearson(copied, np.random.default_rng(0))
    whole = stats.pearsonr(*(np.concatenate(side) for side in zip(*texts, strict=True)))[0]
    assert one.value == pytest.approx(whole)
    assert one.low < one.value < one.high
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        texts = []
        for _ in range(30):
            truth = rng.normal(size=10)
            texts.append((truth, truth + rng.normal(size=10)))
        found = pooled_pearson(texts, rng)
        covered += found.low <= 0.5**0.5 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


@given(values)
def test_the_line_is_numpys_and_its_r_squared_the_correlation_squared(truth: list[float]) -> None:
    predicted = np.random.default_rng(len(truth)).normal(size=len(truth))
    offset, slope = affine_fit(truth, predicted)
    expected = np.polynomial.Polynomial.fit(predicted, truth, 1).convert().coef
    expected = np.pad(expected, (0, 2 - len(expected)))
    assert (offset, slope) == pytest.approx(tuple(expected), abs=1e-8)
    fitted = offset + slope * predicted
    assert r_squared(truth, fitted) == pytest.approx(pearson(truth, predicted) ** 2, abs=1e-9)


def test_a_constant_prediction_fits_by_the_mean() -> None:
    assert affine_fit([1.0, 2.0, 6.0], [4.0, 4.0, 4.0]) == (3.0, 0.0)
    assert r_squared([1.0, 2.0, 6.0], [3.0, 3.0, 3.0]) == 0
    assert r_squared([1.0, 2.0], [2.0, 1.0]) == pytest.approx(-3)


def test_no_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="no texts"):
        pooled_pearson([], np.random.default_rng(0))
