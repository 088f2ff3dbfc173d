"""Summaries of a run, of values whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from autointerp import statistics as s


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


# Rates of Beta(8, 2) vary by .8 · .2 / 11, and accuracies of 100 items about them by the mean of
# p(1 − p) / 100, which is (.8 · .2 − .8 · .2 / 11) / 100.
_ICC_OF_ACCURACIES = (0.16 / 11) / (0.16 / 11 + (0.16 - 0.16 / 11) / 100)


def test_the_interval_of_an_intraclass_correlation_holds_it() -> None:
    """Of normal scores, and of accuracies over 100 items, as often as it says."""
    rng = np.random.default_rng(11)
    inside = {"normal": 0, "accuracies": 0}
    for _ in range(1000):
        own = rng.normal(0, 2, (30, 1))
        found = s.intraclass_interval(own + rng.normal(0, 1, (30, 2)))
        inside["normal"] += found.low <= 0.8 <= found.high
        rates = rng.beta(8, 2, 30)[:, None]
        found = s.intraclass_interval(rng.binomial(100, rates, (30, 2)) / 100)
        inside["accuracies"] += found.low <= _ICC_OF_ACCURACIES <= found.high
    assert 0.93 <= inside["normal"] / 1000 <= 0.97
    assert 0.91 <= inside["accuracies"] / 1000 <= 0.98


def test_reruns_that_agree_wholly_leave_no_doubt() -> None:
    assert s.intraclass_interval([[1, 1], [2, 2], [4, 4]]) == s.Interval(1.0, 1.0, 1.0)
    far = s.intraclass_interval([[1, 2], [2, 1], [1, 2]])
    assert far.low <= far.value <= far.high
    assert far.value < 0
