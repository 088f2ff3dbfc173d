"""Runs whose scorers read texts with an embedder and a base language model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from embedding_model import CountedWords, minilm
from planted_coders import Planted
from small_run import contents, left_alone, refusal, settings

from autointerp.latents import Number

SCORERS = "scorers=[{kind: embedding}, {kind: surprisal}]"


def overrides(planted: Planted) -> list[str]:
    return [
        *settings(planted, "alive:2", "alive:2"),
        SCORERS,
        "examples.semantic=true",
        "examples.background=300",
        f"embedder.model={planted.files.model}",  # a folder that is there
    ]


@pytest.fixture(scope="module")
def run(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autointerp.pipeline.building.load_embedder", lambda **_: CountedWords())
        return left_alone(tmp_path_factory.mktemp("run"), overrides(planted))


def test_both_score_every_window_and_semantic_ones_among_them(run: Path) -> None:
    _, scored = contents(run)
    assert {s.score.scorer for s in scored} == {"embedding", "surprisal"}
    true = [s.score for s in scored if s.control == "" and s.score.status == "scored"]
    assert len(true) >= 6
    for score in true:
        assert score.headline == "auroc"
        assert all(isinstance(outcome, Number) for outcome in score.outcomes)
        assert "semantic" in score.metrics or "semantic" in score.details["unavailable"]
    assert any("semantic" in score.metrics for score in true)


def test_the_index_lies_once_in_the_run(run: Path) -> None:
    folders = list((run / "examples").glob("semantic-*"))
    assert len(folders) == 1
    assert sorted(p.name for p in folders[0].glob("index-*")) == [
        "index-select.npy",
        "index-test.npy",
    ]


def test_a_finished_run_loads_no_embedder(
    run: Path, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("autointerp.pipeline.building.load_embedder", refused)
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    chosen = [o for o in overrides(planted) if o != SCORERS]
    before = contents(copied)
    left_alone(tmp_path, [*chosen, "scorers=[{kind: surprisal}]"])
    assert contents(copied) == before


def test_another_embedder_is_another_setting(
    run: Path, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    other = ["run", "--run", str(copied), *overrides(planted), "embedder.model=another"]
    assert "embedder" in refusal(capsys, other)


def test_an_embedder_that_is_not_there_is_one_line(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minilm()
    wrong = [*overrides(planted), f"embedder.model={tmp_path}/nothing"]
    said = refusal(capsys, ["run", "--run", str(tmp_path / "run"), *wrong])
    assert "set embedder.model to a folder or a hub id" in said


def test_without_the_option_nothing_is_embedded(planted: Planted, tmp_path: Path) -> None:
    run = left_alone(tmp_path, settings(planted, "alive:1", "alive:1"))
    assert not list((run / "examples").glob("semantic-*"))
