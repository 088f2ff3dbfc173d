"""Derived generators."""

from __future__ import annotations

from autointerp import statistics as s


def test_derived_generators_depend_on_every_part() -> None:
    def draw(*parts: object) -> float:
        return float(s.derived_generator(0, *parts).random())

    assert draw("a", 1) == draw("a", 1)
    assert len({draw("a", 1), draw("a", 2), draw("b", 1), draw("a1")}) == 4
