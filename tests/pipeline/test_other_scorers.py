"""A run that one command explains and others score: what it keeps, tells and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from planted_coders import Planted
from small_run import document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.pipeline.results import Results

INPUT_SCORE = "scorers=[{kind: input_score}]"
FUZZING = "scorers=[{kind: fuzzing}]"
INTERVENTION = "scorers=[{kind: intervention, pairs: 12, foils: 1}]"


@pytest.fixture(scope="module")
def base(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("base"), settings(planted, "0-2", "alive:2"))


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "run"))


def config(run: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    return tree


def kinds(run: Path) -> list[str]:
    return [section["kind"] for section in config(run)["scorers"]]


def test_the_run_keeps_the_scorers_that_it_holds_scores_of(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config(run)["scorers"]
    found = document(capsys, "score", "--run", str(run), INPUT_SCORE)
    assert set(found["scores"]) == {"detection", "input_score"}
    assert kinds(run) == ["detection", "input_score"]
    assert config(run)["scorers"][:1] == before
    page = run / "report.html"
    document(capsys, "report", str(run))
    assert "detection (judge: pattern), input_score" in page.read_text("utf-8")
    document(capsys, "score", "--run", str(run))
    assert kinds(run) == ["detection", "input_score"]


def test_a_scorer_without_scores_is_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(capsys, "explain", "--run", str(run), FUZZING)
    assert kinds(run) == ["detection", "fuzzing"]
    document(capsys, "explain", "--run", str(run), INPUT_SCORE)
    assert kinds(run) == ["detection", "input_score"]


def test_what_an_earlier_scorer_was_told_is_kept_where_a_file_stands_for_all(
    run: Path, planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = [INTERVENTION, "effects.prompts=16"]
    document(capsys, "explain", "--run", str(run), *asking)
    document(capsys, "score", "--run", str(run), *asking)
    before = config(run)
    file = tmp_path / "own.yaml"
    file.write_text("{}")
    own = ["--config", str(file), *settings(planted, "0-2", "alive:2")]
    document(capsys, "run", "--run", str(run), *own)
    assert kinds(run) == ["intervention", "detection"]
    assert config(run)["effects"] == before["effects"]
    document(capsys, "run", "--run", str(run))


def test_another_setting_of_a_scorer_is_refused_and_leaves_the_record(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config(run)
    other = "scorers=[{kind: detection, sequential: true}]"
    assert "scorers.detection.sequential" in refusal(capsys, ["score", "--run", str(run), other])
    assert config(run) == before


def test_a_scorer_that_the_new_explainer_cannot_have_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Detection's judge of patterns reads no language model's texts."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    llm = "llms={explainer: {model: m, base_url: 'http://127.0.0.1:9/v1'}}"
    asking = ["explainer={kind: single_pass}", llm, INPUT_SCORE]
    document(capsys, "collect", "--run", str(run), *asking)
    assert kinds(run) == ["input_score"]


@pytest.mark.parametrize("command", [["score"], ["score", "--shard", "1/2"]])
def test_explanations_that_are_not_there_are_not_scored(
    run: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    line = refusal(capsys, [*command, "--run", str(run), INTERVENTION])
    assert "intervention needs explanations of effects" in line
    assert "`autointerp explain` (or `run`) with the same options makes them" in line
    line = refusal(capsys, [*command, "--run", str(run), "latents={a: '7'}"])
    assert "no explanations of these latents to score; `autointerp explain` makes them" in line
    assert kinds(run) == ["detection"]


def test_nothing_is_collected_for_scores_of_nothing(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    line = refusal(capsys, ["score", "--run", str(new), *settings(planted)])
    assert "new has no explanations to score; `autointerp explain` makes them" in line
    assert not new.exists()


def test_a_command_tells_what_it_did(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--run", str(run), INPUT_SCORE]) == 0
    told = capsys.readouterr().out
    assert "input_score" in told
    assert "scored by earlier commands: detection\n" in told
    assert "hook point" not in told
    assert "balanced_accuracy" not in told
    assert "best explained" not in told
    assert f"autointerp report {run}" in told
    assert main(["run", "--run", str(run)]) == 0
    told = capsys.readouterr().out
    assert "hook point" in told
    assert "balanced_accuracy" in told
    assert "best explained, by detection" in told
    assert "earlier commands" not in told


def test_another_explainer_is_announced_and_has_no_rerun(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["control", str(run), "--kind", "rerun"]) == 0
    told = capsys.readouterr().out
    assert "hook point" not in told
    assert "rerun: " in told
    assert main(["run", "--run", str(run), "explainer.kind=agent"]) == 0
    told, errors = capsys.readouterr()
    assert "the explainer is now agent, in place of pattern; the explanations of pattern" in errors
    assert "rerun: " not in told
    assert document(capsys, "report", str(run))["rerun"] is None
    assert main(["run", "--run", str(run)]) == 0
    assert "the explainer is now" not in capsys.readouterr().err
    assert main(["run", "--run", str(run), "explainer.kind=pattern"]) == 0
    assert "rerun: " in capsys.readouterr().out


def test_what_is_shown_and_compared_is_the_explainers_that_the_run_is_about(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results.read(run / "results.sqlite") as results:
        latent = str(results.explanations()[0].latent)
    for kind in ("agent", "pattern"):
        document(capsys, "run", "--run", str(run), f"explainer.kind={kind}")
        assert document(capsys, "show", str(run), latent)["explainer"] == kind
        compared = document(capsys, "compare", str(run), str(run))
        assert (compared["explainer_a"], compared["explainer_b"]) == (kind, kind)
