"""A run with detection and fuzzing: its figures, controls, and what the terminal shows of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted import Family
from planted_coders import Planted
from small_run import document, settings

from autointerp.cli import main
from autointerp.pipeline.results import Results

OFTEN: tuple[Family, ...] = ("token_set", "single", "either_or")
BOTH = "scorers=[{kind: detection}, {kind: fuzzing}]"


@pytest.fixture(scope="module")
def run(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "both"
    often = [latent.index for latent in planted.truth.family(*OFTEN)[:6]]
    rare = [latent.index for latent in planted.truth.family("rare")]
    wanted = json.dumps({"a": [*often, *rare]})
    overrides = [*settings(planted), "corpus.tokens=40000", f"latents={wanted}", BOTH]
    assert main(["run", "--json", "--run", str(folder), *overrides]) == 0
    return folder


def test_each_scorer_has_its_sources_and_controls(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = document(capsys, "status", str(run))["scores"]
    assert list(scores) == ["detection", "fuzzing"]
    assert next(iter(scores["detection"]["by_source"])) == "random"
    assert list(scores["fuzzing"]["by_source"]) == ["donor", "random"]
    assert scores["fuzzing"]["by_source"]["donor"] == scores["fuzzing"]["mean"] > 0.9
    own = set(scores["fuzzing"]["controls"]) - set(scores["detection"]["controls"])
    assert own == {"marked_only"}
    assert scores["fuzzing"]["controls"]["empty"] == 0.5


def test_the_terminal_shows_both(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latent = _scored(run)
    shown = _printed(capsys, "status", str(run))
    assert "detection: balanced_accuracy" in shown
    assert "fuzzing: balanced_accuracy" in shown
    shown = _printed(capsys, "show", str(run), latent)
    assert "fuzzing: balanced_accuracy" in shown
    assert "marked_only" in shown
    shown = _printed(capsys, "run", "--run", str(run))
    assert "control: marked_only" in shown
    assert "against donor negatives" in shown
    header = next(line for line in shown.splitlines() if "explanation" in line and "latent" in line)
    assert header.index("detection") < header.index("fuzzing") < header.index("explanation")


def test_a_latent_without_a_score_says_why(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Results.read(run / "results.sqlite") as results:
        few = [s.score for s in results.scores("fuzzing") if s.score.status == "too_few_examples"]
    shown = _printed(capsys, "show", str(run), str(few[0].latent))
    assert "fuzzing: too few examples: " in shown
    assert "are needed" in shown


def _scored(run: Path) -> str:
    with Results.read(run / "results.sqlite") as results:
        return next(str(s.score.latent) for s in results.scores("fuzzing") if s.score.metrics)


def _printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out
