"""The search for a strength, on curves whose crossings are known."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autointerp.subject.strengths import GRID, Strength, search

Curve = Callable[[float], float]


def found(curve: Curve, target: float = 1.0, unit: float = 1.0) -> tuple[Strength, list[float]]:
    """The strength found, and the ratios that were measured."""
    asked: list[float] = []

    async def measure(ratios: Sequence[float]) -> list[float]:
        asked.extend(ratios)
        return [curve(ratio) for ratio in ratios]

    return asyncio.run(search(measure, unit, target)), asked


def saturating(size: float, power: float, top: float) -> Curve:
    return lambda ratio: top * (1 - math.exp(-((ratio / size) ** power)))


@settings(max_examples=200)
@given(
    st.floats(1e-3, 50), st.floats(0.5, 6), st.floats(0.05, 30), st.sampled_from([0.1, 0.33, 1, 3])
)
@example(0.001, 0.5, 11.0, 0.1)  # exceeds the target at a ten-millionth of what is there
def test_a_reachable_target_is_reached(
    size: float, power: float, top: float, target: float
) -> None:
    curve = saturating(size, power, top)
    strength, asked = found(curve, target, unit=7.0)
    assert strength.s == pytest.approx(7.0 * strength.ratio)
    assert strength.kl == pytest.approx(curve(strength.ratio))
    if max(map(curve, GRID)) >= target:
        assert strength.reachable
        assert strength.kl == pytest.approx(target, rel=0.05)
    else:
        assert not strength.reachable
        assert strength.kl == max(map(curve, GRID))
    assert len(asked) <= len(GRID) + 20


def test_the_first_of_several_crossings_is_taken() -> None:
    def curve(ratio: float) -> float:
        place = math.log10(ratio)
        return 2 * math.exp(-(((place + 0.7) / 0.4) ** 2)) + max(0.0, place)

    strength, _ = found(curve)
    assert strength.reachable
    assert -1.2 < math.log10(strength.ratio) < -0.7


def test_a_jump_over_the_target_is_unreachable() -> None:
    strength, asked = found(lambda ratio: 0.5 if ratio < 0.123 else 5.0)
    assert not strength.reachable
    assert strength.kl in (0.5, 5.0)
    assert len(asked) < 60


def test_small_targets_lie_below_the_grid() -> None:
    strength, _ = found(lambda ratio: (1e4 * ratio) ** 2)
    assert strength.reachable
    assert strength.ratio == pytest.approx(1e-4, rel=0.05)


def test_what_overflows_is_not_a_crossing() -> None:
    strength, _ = found(lambda ratio: ratio if ratio < 0.5 else math.nan)
    assert not strength.reachable
    assert 0.1 < strength.kl < 0.5
