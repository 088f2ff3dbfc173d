"""Precision at the natural rate, of strata whose truth is known."""

from __future__ import annotations

import pytest

from autointerp import statistics as s
from autointerp.statistics import Tally


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
