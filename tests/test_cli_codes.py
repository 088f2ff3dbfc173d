"""Exit codes: 0 done, 1 finished with failures, 130 interrupted; and how each goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from planted_coders import Planted
from small_run import contents, document, left_alone, settings, start

from autointerp.cli import main
from autointerp.explainers.pattern import PatternExplainer, PatternOptions
from autointerp.latents import Evidence, Explanation, LabelledSet, LatentId
from autointerp.registry import explainers, scorers

CHOSEN = ("0-5", "alive:2")
BAD = LatentId("a", 2)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> str:
    """An explainer from elsewhere that cannot explain one latent."""
    monkeypatch.setattr(explainers, "_kinds", {**explainers._kinds})

    @explainers.register("test_picky", PatternOptions)
    class Picky(PatternExplainer):
        async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
            if evidence.latent == BAD:
                raise ValueError("not [this] one")
            return await super().explain(evidence, selection)

    return "explainer={kind: test_picky}"


def test_failures_are_listed_and_exit_1(
    tmp_path: Path, planted: Planted, picky: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    arguments = ["run", "--run", str(run), *settings(planted, "0-4", "alive:2"), picky]
    for command in ("run", "explain", "run --retry-failed"):  # listed each time
        assert main([*command.split(), *arguments[1:], "--json"]) == 1
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        assert (found["failed"], found["by_status"]["failed"], found["latents"]) == (1, 1, 7)
        assert captured.err.splitlines()[-2:] == [
            "failed: a/2: ValueError: not [this] one",
            f"try them again: autointerp run --run {run} --retry-failed",
        ]
        assert "Traceback" not in captured.err
    shown = document(capsys, "show", str(run), "a/2")
    assert (shown["status"], shown["reason"]) == ("failed", "ValueError: not [this] one")
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    failures = [event for event in events if event["event"] == "failed"]
    assert [event["latent"] for event in failures] == ["a/2"] * 2  # once when asked to try again
    assert "Traceback" in failures[0]["traceback"]
    assert document(capsys, "status", str(run))["stage"] == "done"


def test_a_failed_score_is_listed_and_done_again(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["run", "--run", str(tmp_path / "run"), *settings(planted, "0-4", "0")]
    kind = scorers.get("detection").implementation
    with monkeypatch.context() as broken:
        broken.setattr(kind, "score", None)
        assert main([*arguments, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["scores"]["detection"]["n"] == 0
    assert "failed: a/0: detection: TypeError" in captured.err
    assert document(capsys, *arguments, code=1)["scores"]["detection"]["n"] == 0
    again = document(capsys, *arguments, "--retry-failed")
    assert again["failed"] == 0
    assert again["scores"]["detection"]["n"] > 0


SLOWLY = """
import asyncio, time
from autointerp.examples import streaming
from autointerp.pipeline import tasks
read, explain, call = streaming.Pass._read, tasks.ExplainTask._explain, tasks.ScoreTask.__call__
"""
# What the process does slowly, so that a signal finds it there; and where it then is.
STAGES = {
    "collect": """
def slowly(*arguments, **options):
    read(*arguments, **options)
    print("here", file=sys.stderr, flush=True)
    time.sleep(60)
streaming.Pass._read = slowly
""",
    "explain": """
async def slowly(self, latent):
    if latent.index % 2:
        print("here", file=sys.stderr, flush=True)
        await asyncio.sleep(60)
    return await explain(self, latent)
tasks.ExplainTask._explain = slowly
""",
    "score": """
async def slowly(self, explanation):
    if explanation.latent.index % 2:
        print("here", file=sys.stderr, flush=True)
        await asyncio.sleep(60)
    return await call(self, explanation)
tasks.ScoreTask.__call__ = slowly
""",
}


INTERRUPTIONS = [*((stage, signal.SIGINT) for stage in STAGES), ("explain", signal.SIGTERM)]


@pytest.fixture(scope="module")
def alone(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing befell."""
    return left_alone(tmp_path_factory.mktemp("alone"), settings(planted, *CHOSEN))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "how"), INTERRUPTIONS)
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path,
    planted: Planted,
    alone: Path,
    capsys: pytest.CaptureFixture[str],
    stage: str,
    how: signal.Signals,
) -> None:
    run, chosen = tmp_path / "run", settings(planted, *CHOSEN)
    process = start(["run", "--json", "--run", str(run), *chosen], SLOWLY + STAGES[stage])
    assert process.stderr is not None
    for line in process.stderr:
        if "here" in line:
            break
    process.send_signal(how)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert out == ""
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == (
        "interrupted; run the same command again to continue"
    )
    status = document(capsys, "status", str(run))
    assert (status["stage"], status["running"]) == (stage, False)
    assert main(["status", str(run)]) == 0
    assert f"stopped in {stage} and not running" in capsys.readouterr().out
    document(capsys, "run", "--run", str(run), *chosen)
    assert contents(run) == contents(alone)
    assert document(capsys, "status", str(run))["stage"] == "done"
