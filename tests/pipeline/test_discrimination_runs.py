"""Runs whose scorers set latents against one another: where the windows' truths are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from planted_coders import Planted
from small_run import contents, left_alone, settings

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.latents import Choice, LatentId, Score
from autointerp.pipeline import others
from autointerp.pipeline.directory import CONFIG
from autointerp.pipeline.rendered import render_run
from autointerp.pipeline.rows import TRUE, Scored

DISCRIMINATION = "scorers=[{kind: discrimination}]"
LLM = (
    "scorers=[{kind: intruder}, {kind: discrimination, judge: llm}]",
    "llms={judge: {model: fake, base_url: 'http://127.0.0.1:1/v1', temperature: 0}}",
)


@pytest.fixture(scope="module")
def chosen(planted: Planted) -> list[str]:
    family = planted.truth.family("token_set", "single", "either_or")
    often = json.dumps({"a": [latent.index for latent in family[:8]]})
    return [*settings(planted), "corpus.tokens=40000", f"latents={often}"]


@pytest.fixture(scope="module")
def run(chosen: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("run"), [*chosen, DISCRIMINATION])


def scores(run: Path, control: str = TRUE) -> dict[LatentId, Score]:
    found: list[Scored] = contents(run)[1]
    mine = [s for s in found if s.score.scorer == "discrimination" and s.control == control]
    return {s.score.latent: s.score for s in mine}


def test_true_explanations_are_told_apart_and_others_are_not(run: Path) -> None:
    true, shuffled = scores(run), scores(run, "shuffled")
    assert {s.status for s in true.values()} == {"scored"}
    assert np.mean([s.metrics["told_apart"].value for s in true.values()]) >= 0.9
    assert np.mean([s.metrics["told_apart"].value for s in shuffled.values()]) <= 0.7
    assert all(isinstance(o, Choice) for s in true.values() for o in s.outcomes)


def test_it_may_be_added_to_a_finished_run(
    run: Path, chosen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # nobody asks, so nothing is read
        patch.setattr(others, "activity", None)
        later = left_alone(tmp_path, chosen)
    both = "scorers=[{kind: detection}, {kind: discrimination}]"
    assert main(["score", "--json", "--run", str(later), both]) == 0
    assert scores(later) == scores(run)
    with monkeypatch.context() as patch:  # all is scored
        patch.setattr(others, "activity", None)
        assert main(["run", "--json", "--run", str(later)]) == 0


def test_shards_ask_what_one_process_asks(run: Path, chosen: list[str], tmp_path: Path) -> None:
    parted = left_alone(tmp_path, [*chosen, DISCRIMINATION], "explain")
    for shard in ("1/2", "2/2"):
        assert main(["score", "--shard", shard, "--json", "--run", str(parted)]) == 0
    assert main(["merge", "--json", str(parted)]) == 0
    for control in (TRUE, "shuffled", "empty"):
        assert scores(parted, control) == scores(run, control)


def test_a_rerun_is_judged_too(run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(run, copied, symlinks=True)
    assert main(["control", "--kind", "rerun", "--json", str(copied), "--latents", "4"]) == 0
    again = scores(copied.with_name("run-rerun"))
    assert len(again) == 4
    assert {s.status for s in again.values()} == {"scored"}


def test_prompts_are_shown_of_windows_that_were_read(run: Path) -> None:
    config = load_config(run / CONFIG, [f"run.directory={run.parent}", *LLM])
    latent = next(iter(scores(run)))
    shown = render_run(config, latent).scorers
    assert len(shown["intruder"]) >= 5
    assert len(shown["discrimination"]) >= 2
