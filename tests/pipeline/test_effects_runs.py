"""Runs that steer: output explanations are made, scored and shown; concurrency changes none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted_coders import Planted
from small_run import contents, document, settings

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.latents import LatentId
from autointerp.patterns import parse
from autointerp.pipeline.rendered import render_run

SCORERS = [
    {"kind": "intervention", "pairs": 12, "foils": 1},
    {"kind": "output_score", "prompts": 8, "random": 1},
    {"kind": "input_score"},
]


def chosen(planted: Planted, *more: str) -> list[str]:
    scorers = f"scorers={json.dumps(SCORERS)}"
    return [*settings(planted, "0,20,40,45", "alive:1"), scorers, "effects.prompts=16", *more]


@pytest.fixture(scope="module")
def run(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "together"
    assert main(["run", "--json", "--run", str(path), *chosen(planted)]) == 0
    return path


def test_effects_are_explained_scored_and_shown(
    run: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    explanations, scores = contents(run)
    outputs = [e for e in explanations if e.kind == "output"]
    assert [e.latent.coder for e in outputs] == ["a"] * 4 + ["b"]
    assert all(e.explainer == "effects" for e in outputs)
    read: dict[str, set[str | None]] = {}
    for scored in scores:
        read.setdefault(scored.score.scorer, set()).add(scored.score.explanation)
    assert all(":output:effects" in (i or "") for i in read["intervention"])
    assert all(":input:pattern" in (i or "") for i in read["output_score"] | read["input_score"])
    controls = {s.control for s in scores if s.score.scorer == "intervention"}
    assert {"", "empty", "shuffled"} <= controls
    assert {s.control for s in scores if s.score.scorer == "output_score"} == {""}
    shown = document(capsys, "show", str(run), "a/0")
    assert shown["output_explanation"] == outputs[0].text
    assert str(parse(shown["output_explanation"])) == outputs[0].text
    assert set(planted.truth.latents[0].promoted) <= set(json_words(outputs[0].text))
    assert {"intervention", "output_score", "input_score"} == set(shown["scores"])
    assert main(["show", str(run), "a/0"]) == 0
    assert "makes likelier:" in capsys.readouterr().out
    summary = document(capsys, "status", str(run))
    assert summary["scores"]["intervention"]["metric"] == "gain"
    assert summary["latents"] == 5


def json_words(text: str) -> list[str]:
    return [str(json.loads(word)) for word in text.split(", ")]


def test_one_latent_at_a_time_gives_the_same(run: Path, planted: Planted, tmp_path: Path) -> None:
    path = tmp_path / "apart"
    alone = chosen(planted, "engine.concurrency=1")
    assert main(["run", "--json", "--run", str(path), *alone]) == 0
    (texts, scores), (same_texts, same_scores) = contents(run), contents(path)
    assert [(e.id, e.text, e.status) for e in texts] == [
        (e.id, e.text, e.status) for e in same_texts
    ]
    for one, other in zip(scores, same_scores, strict=True):
        assert one.control == other.control
        assert one.score.status == other.score.status
        if one.score.scorer == "intervention":
            assert one.score.outcomes == other.score.outcomes
        for name, metric in one.score.metrics.items():
            assert metric.value == pytest.approx(
                other.score.metrics[name].value, rel=1e-3, abs=1e-4
            )


def test_a_second_start_does_nothing_and_another_target_is_refused(
    run: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert main(["run", "--json", "--run", str(run), *chosen(planted)]) == 0
    assert contents(run) == before
    assert main(["run", "--run", str(run), *chosen(planted, "effects.target=0.3")]) == 2
    assert "effects.effects.target = 1.0" in " ".join(capsys.readouterr().err.split())


def test_the_prompts_of_effects_and_of_their_judge_can_be_seen(
    run: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    model = json.dumps({"model": "m", "base_url": "http://127.0.0.1:1/v1"})
    asking = [
        f"llms={json.dumps({'judge': json.loads(model), 'explainer': json.loads(model)})}",
        f"scorers={json.dumps([{**SCORERS[0], 'judge': 'llm'}])}",
        "effects.roles=llm",
    ]
    config = load_config(
        None, chosen(planted, f"run.directory={run.parent}", f"run.name={run.name}", *asking)
    )
    rendered = render_run(config, LatentId("a", 0))
    assert [request.purpose for request in rendered.explainer] == ["explainer.effects"]
    asked = rendered.scorers["intervention"]
    assert {request.purpose for request in asked} <= {"judge.intervention", "explainer.effects"}
    assert any(request.purpose == "judge.intervention" for request in asked)
