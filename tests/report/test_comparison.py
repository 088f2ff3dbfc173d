"""What the terminal shows of two runs side by side."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from autointerp.report.comparison import print_comparison, print_rerun

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


def test_an_intraclass_correlation_stands_with_its_interval() -> None:
    difference = {"mean": 0.0, "low": -0.01, "high": 0.01}
    sides = {"n": 9, "a": 0.7, "b": 0.7, "difference": difference}
    text = shown(True, **sides, icc=0.8, icc_interval=[0.5, 0.95])
    (line,) = (line for line in text.splitlines() if "intra-class" in line)
    assert "0.800" in line
    assert "0.500 to 0.950" in line
    assert "intra-class" not in shown(True, **sides, icc=None, icc_interval=None)


def test_a_rerun_is_told_in_two_lines() -> None:
    console = Console(width=160, record=True, file=StringIO())
    scores = {"detection": {"n": 30, "icc": 0.8, "icc_interval": [0.6, 0.9]}}
    texts = {"n": 30, "equal": 0.1, "cosine": 0.7, "others": 0.2}
    print_rerun(console, {"scores": scores, "texts": texts})
    first, second = console.export_text().splitlines()
    assert first.endswith("detection 0.800 (0.600 to 0.900), n = 30")
    assert second == "rerun: 10% of 30 texts are the same; cosine 0.700, of other latents' 0.200"
