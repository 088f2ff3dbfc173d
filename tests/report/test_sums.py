"""Running figures against NumPy's over all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.report.static.sums import BIN, Best, Correlation, Histogram, Mean, Sample

shares = st.floats(-1, 1).map(lambda x: round(x, 3))


@given(st.lists(st.tuples(shares, shares), min_size=2, max_size=60))
def test_correlation_is_that_of_all_pairs_at_once(pairs: list[tuple[float, float]]) -> None:
    running = Correlation()
    for pair in pairs:
        running.add(*pair)
    x, y = np.array(pairs).T
    if x.std() < 1e-6 or y.std() < 1e-6:
        return
    assert running.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_what_does_not_vary_has_no_correlation() -> None:
    running = Correlation()
    for y in (0.1, 0.2, 0.3):
        running.add(0.5, y)
    assert running.value is None


@given(st.lists(shares, min_size=1, max_size=80))
def test_histogram_and_mean(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    edges = np.round(np.arange(-1, 1 + BIN / 2, BIN), 6)
    expected = np.histogram(np.array(values), edges)[0]
    assert histogram.counts == expected.tolist()
    assert histogram.mean.value == pytest.approx(np.mean(values), abs=1e-9)


def test_values_beyond_the_bins_are_in_the_outermost() -> None:
    histogram = Histogram()
    for value in (-7.0, 3.0, 1.0):
        histogram.add(value)
    assert (histogram.counts[0], histogram.counts[-1]) == (1, 2)


def test_a_sample_is_uniform_and_seeded() -> None:
    hits = np.zeros(50)
    for seed in range(2000):
        sample: Sample[int] = Sample(5, seed)
        for item in range(50):
            sample.add(item)
        assert len(set(sample.items)) == 5
        assert sample.of == 50
        hits[sample.items] += 1
    assert np.abs(hits / 2000 - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 2000)


def test_few_items_are_all_sampled() -> None:
    sample: Sample[str] = Sample(5, 0)
    for item in "abc":
        sample.add(item)
    assert sample.items == ["a", "b", "c"]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 8))
def test_the_best_are_those_of_a_stable_sort(keys: list[int], size: int) -> None:
    best: Best[int] = Best(size)
    for place, key in enumerate(keys):
        best.add((float(key),), place)
    order = sorted(range(len(keys)), key=lambda place: (-keys[place], place))
    assert list(best) == order[:size]


def test_the_mean_of_nothing_is_none() -> None:
    assert Mean().value is None
