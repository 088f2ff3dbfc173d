"""Whole runs over language models that rave: every latent ends, with a reason, and can be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from llm_models import Adversary
from llm_runs import EXPLAINERS, Recorder, World, check_complete, world
from planted_coders import Planted
from small_run import document

from autointerp.cli import main
from autointerp.explainers.agent import AgentOptions
from autointerp.latents import Explanation

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def raved(
    tmp_path: Path, planted: Planted, collected: Path, request: pytest.FixtureRequest
) -> tuple[World, Adversary]:
    """A run of twenty latents over a model that raves, shown on the terminal."""
    raved, adversary = world(tmp_path, planted, collected), Adversary()
    more = 'latents={a: "alive:12", b: "alive:8"}'
    with Recorder(adversary) as server:
        command = raved.command(server, EXPLAINERS[request.param], more)
        assert main([word for word in command if word != "--json"]) in (0, 1)
        assert server.served_again == 0
    return raved, adversary


@pytest.mark.parametrize("raved", ["agent"], indirect=True)
def test_a_raving_model_leaves_the_agent_a_reason_within_its_caps(
    raved: tuple[World, Adversary], capsys: pytest.CaptureFixture[str]
) -> None:
    caps = AgentOptions()
    assert len(raved[1].met) >= 6
    explanations, _ = check_complete(raved[0].run, 20)
    for explanation in explanations:
        assert explanation.reason
        if explanation.status != "too_few_examples":
            assert explanation.status in ("no_explanation", "failed")
            assert explanation.details["rounds"] <= caps.rounds
            assert explanation.details["measured"] <= caps.probes
            assert explanation.details["calls"] <= caps.calls
        check_shown(raved[0], explanation, capsys)


@pytest.mark.parametrize("raved", ["single_pass"], indirect=True)
def test_a_raving_model_is_quoted_and_judged_or_refused(
    raved: tuple[World, Adversary], capsys: pytest.CaptureFixture[str]
) -> None:
    explanations, scores = check_complete(raved[0].run, 20)
    assert {e.status for e in explanations} == {"explained", "failed", "too_few_examples"}
    assert all(s.score.status == "scored" for s in scores)
    for explanation in explanations:
        check_shown(raved[0], explanation, capsys)


def check_shown(world: World, explanation: Explanation, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    shown = document(capsys, "show", str(world.run), str(explanation.latent))
    assert (shown["explanation"], shown["reason"]) == (explanation.text, explanation.reason)
    assert main(["show", str(world.run), str(explanation.latent)]) == 0
