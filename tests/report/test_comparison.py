"""What the terminal shows of two runs side by side."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from autointerp.report.comparison import print_comparison

NOTHING = {"n": 0, "difference": None, "items": None}


def shown(paired: bool, **figures: Any) -> str:
    sides = {"a": "one", "b": "two", "explainer_a": "agent", "explainer_b": "agent"}
    scores = {"detection": {"metric": "balanced_accuracy", **NOTHING, **figures}}
    console = Console(width=160, record=True, file=StringIO())
    print_comparison(console, {**sides, "paired": paired, "scores": scores})
    return console.export_text()


def test_runs_about_different_latents_are_told_so() -> None:
    text = shown(True, only_in_a=12, only_in_b=1_500)
    assert "no latent in both: 12 in A, 1,500 in B" in text
    assert "name the same ones in both" in text


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"metric": None}, "the runs tell other metrics of it"),
        ({}, "it scored nothing in one of the runs"),
    ],
)
def test_a_scorer_that_compares_nothing_tells_why(figures: dict[str, Any], told: str) -> None:
    text = shown(False, **figures)
    assert told in text
    assert "name the same ones" not in text
