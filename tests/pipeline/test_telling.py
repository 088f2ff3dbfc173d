"""What a run says of itself while and after it asks: status.json, log.jsonl, the budget's end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from llm_runs import one_model
from llm_server import LLMServer
from planted_coders import Planted
from small_run import document, settings

from autointerp.cli import main
from autointerp.llm import pricing
from autointerp.pipeline import session

pytestmark = pytest.mark.usefixtures("at_once")


def asked(planted: Planted, server: LLMServer, folder: Path, **llm: Any) -> list[str]:
    return [
        *settings(planted, "alive:3", "0"),
        "examples.test.sampled=20",
        *one_model(server.url, folder / "journal.sqlite", **llm),
        "explainer={kind: single_pass}",
        "scorers=[{kind: detection, judge: {kind: llm, texts_per_prompt: 20}}]",
    ]


def test_faults_and_spending_reach_the_status_the_summary_and_the_log(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session, "TOLD_EVERY", 0.0)
    run = tmp_path / "run"
    with LLMServer(faults={"503": 0.2, "garbage": 0.1}, retry_after="0") as server:
        chosen = asked(planted, server, tmp_path, prices={"prompt": 1, "completion": 4})
        arguments = ["run", "--run", str(run), "--json", *chosen, "budget.dollars=5"]
        assert main(arguments) in (0, 1)
        found = json.loads(capsys.readouterr().out)
        told = document(capsys, "status", str(run))
        assert found["llm"]["faults"] == {"busy": server.stats.faults["503"]}
        assert found["llm"]["repaired"] + found["llm"]["unusable"] > 0
        answers = server.stats.served.total()
        assert main(arguments) in (0, 1)
        capsys.readouterr()
        again = document(capsys, "status", str(run))
    llm = told["llm"]
    assert {name: llm[name] for name in found["llm"]} == found["llm"]
    assert (llm["requests"], llm["in_flight"]) == (answers, 0)
    assert told["budget"]["dollars"]["limit"] == 5
    assert told["budget"]["dollars"]["spent"] > 0
    assert again["budget"]["dollars"]["spent"] == told["budget"]["dollars"]["spent"]
    assert again["llm"]["faults"] == llm["faults"]  # of all starts together
    assert main(["status", str(run)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"spent: \$[\d.]+ of \$5, [\d,.e+]+ prompt tokens", shown)
    busy = llm["faults"]["busy"]
    often = "once" if busy == 1 else f"{busy} times"
    assert f"sent again after answers that the server is busy: {often}" in shown
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all({"time", "host", "pid", "stage", "event"} <= event.keys() for event in events)
    assert {"stage", "collected", "progress", "summary"} <= {event["event"] for event in events}
    progress = next(event for event in events if event["event"] == "progress")
    assert {"progress", "llm", "budget"} <= progress.keys()


def test_answers_without_a_price_are_told(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pricing, "is_loopback", lambda url: False)
    run = tmp_path / "run"
    with LLMServer() as server:
        found = document(capsys, "run", "--run", str(run), *asked(planted, server, tmp_path))
    assert found["llm"]["unpriced"] == len(server.stats.served)
    assert main(["status", str(run)]) == 0
    assert "have no known price and are in no sum of dollars" in capsys.readouterr().out


def test_a_run_that_its_budget_stopped_tells_how_to_go_on(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with LLMServer() as server:
        chosen = asked(planted, server, tmp_path, prices={"prompt": 1, "completion": 4})
        arguments = ["run", "--run", str(run), *chosen]
        assert main([*arguments, "budget.dollars=0.02"]) == 1
        errors = " ".join(capsys.readouterr().err.split())
        assert "stopped: the budget of 0.02 dollars does not last" in errors
        assert "raise budget.dollars and run again to go on" in errors
        assert main(["status", str(run)]) == 0
        shown = capsys.readouterr().out
        assert "stopped" in shown
        assert "raise budget.dollars" in shown
        document(capsys, *arguments, "budget.dollars=50")
        assert set(server.stats.served.values()) == {1}
