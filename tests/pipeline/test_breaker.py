"""The breaker: a run that goes wrong stops, says why, and can be taken up again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_coders import Planted
from small_run import contents, document, settings

from autointerp.cli import main
from autointerp.pipeline import breaker as module
from autointerp.pipeline.breaker import Breaker, StoppedError
from autointerp.registry import explainers


def test_a_fifth_of_failures_is_borne() -> None:
    breaker = Breaker()
    for number in range(1000):
        breaker.record(failed=number % 5 == 4)
    assert (breaker.latents, breaker.failed) == (1000, 200)


def test_more_failures_stop_the_run_at_its_two_hundredth_latent() -> None:
    breaker = Breaker()
    for number in range(199):
        breaker.record(failed=number < 41)
    with pytest.raises(StoppedError, match=r"41 of 200 latents failed.*run again to continue"):
        breaker.record(failed=False)


def test_failures_that_come_later_stop_it_too() -> None:
    breaker = Breaker()
    for number in range(500):
        breaker.record(failed=number >= 400)
    with pytest.raises(StoppedError, match="101 of 501 latents failed"):
        breaker.record(failed=True)


def test_differences_around_zero_stop_the_run() -> None:
    breaker = Breaker()
    for number in range(199):
        breaker.record(failed=False, differences=[0.1 if number % 2 else -0.1])
    with pytest.raises(StoppedError, match="no better than shuffled"):
        breaker.record(failed=False, differences=[0.1])


def test_scorers_of_one_latent_are_one_difference() -> None:
    """Four scorers that agree are no four times as much evidence."""
    breaker = Breaker()
    differences = [0.03 + 0.25 * (-1) ** number for number in range(200)]
    for difference in differences[:-1]:
        breaker.record(failed=False, differences=[difference] * 4)
    with pytest.raises(StoppedError, match=r"\+0\.030, from -0\.005 \(95 %\), over 200 expl"):
        breaker.record(failed=False, differences=differences[-1:] * 4)


def test_worse_than_shuffled_stops_it() -> None:
    breaker = Breaker()
    differences = [-0.2 - 0.001 * (number % 2) for number in range(200)]
    for difference in differences[:-1]:
        breaker.record(failed=False, differences=[difference])
    with pytest.raises(StoppedError, match=r"no better than shuffled ones: -0\.2"):
        breaker.record(failed=False, differences=differences[-1:])


def test_true_differences_go_on() -> None:
    breaker = Breaker()
    for number in range(500):
        breaker.record(failed=False, differences=[0.25 + 0.2 * (-1) ** number])


def test_a_handful_of_differences_is_no_evidence() -> None:
    breaker = Breaker()
    for number in range(300):
        breaker.record(failed=False, differences=[-0.5] if number < 19 else None)


@pytest.fixture
def monotonous(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explainer that says the same of every latent; the breaker looks after 6 latents."""
    kind = explainers.get("pattern").implementation
    explain = kind.explain

    async def explained(self: Any, *arguments: Any) -> Any:
        return replace(await explain(self, *arguments), text='"cat"', status="explained")

    monkeypatch.setattr(kind, "explain", explained)
    monkeypatch.setattr(module, "FIRST_LOOK", 6)
    monkeypatch.setattr(module, "FEWEST_DIFFERENCES", 4)


@pytest.mark.usefixtures("monotonous")
def test_explanations_no_better_than_shuffled_stop_a_run(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--run", str(tmp_path / "run"), *settings(planted, "0-9", "alive:2")]
    found = document(capsys, *arguments, code=1)
    assert found["failed"] == 0
    assert found["explained"] == 12
    status = document(capsys, "status", str(tmp_path / "run"))
    assert status["stage"] == "stopped"
    assert "explanations score no better than shuffled ones: +0.000" in status["reason"]


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """An explainer that fails while it is told to; the breaker looks after 6 latents."""
    state = {"fails": True}
    kind = explainers.get("pattern").implementation
    explain = kind.explain

    async def explained(self: Any, *arguments: Any) -> Any:
        if state["fails"]:
            raise ValueError("the explainer is unwell")
        return await explain(self, *arguments)

    monkeypatch.setattr(kind, "explain", explained)
    monkeypatch.setattr(module, "FIRST_LOOK", 6)
    return state


def test_a_stopped_run_says_so_and_continues(
    tmp_path: Path,
    planted: Planted,
    unlucky: dict[str, bool],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["run", "--run", str(tmp_path / "run"), *settings(planted, b="alive:8")]
    assert main([*arguments, "--json", "engine.concurrency=1"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["by_status"] == {"failed": 6}
    assert "stopped: 6 of 6 latents failed" in " ".join(captured.err.split())
    assert captured.err.count("ValueError: the explainer is unwell") == 6
    status = document(capsys, "status", str(tmp_path / "run"))
    assert (status["stage"], status["running"], status["latents"]) == ("stopped", False, 12)
    assert "6 of 6 latents failed" in status["reason"]
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "stopped, " in capsys.readouterr().out
    unlucky["fails"] = False
    assert document(capsys, *arguments, code=1)["failed"] == 6
    assert document(capsys, *arguments, "--retry-failed")["failed"] == 0
    explanations, scores = contents(tmp_path / "run")
    assert len(explanations) == 12
    assert all(e.status != "failed" for e in explanations)
    assert scores
    assert document(capsys, "status", str(tmp_path / "run"))["reason"] is None
