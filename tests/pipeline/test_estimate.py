"""Estimates of small runs on the planted subject, against what the runs then cost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from llm_runs import one_model
from llm_server import LLMServer
from planted_coders import Planted
from rich.console import Console
from small_run import document, refusal, settings

from autointerp.cli import main
from autointerp.pipeline import standins
from autointerp.report.estimate import print_estimate

PRICES = {"prompt": 1.0, "completion": 4.0}

pytestmark = pytest.mark.usefixtures("at_once")


def asked(planted: Planted, url: str, folder: Path, *more: str) -> list[str]:
    """The overrides of a run that asks about everything."""
    return [
        *settings(planted, "alive:3", "alive:3"),
        "examples.test.sampled=15",
        *one_model(url, folder / "journal.sqlite", prices=PRICES),
        "explainer={kind: single_pass}",
        "scorers=[{kind: detection, judge: {kind: llm, texts_per_prompt: 20}}]",
        *more,
    ]


def journaled(folder: Path, what: str) -> int:
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        found: float = journal.execute(f"SELECT {what} FROM replies").fetchone()[0]
    return int(found)


def replies(folder: Path) -> int:
    return journaled(folder, "count(*)")


def paid(folder: Path) -> int:
    """Prompt tokens; those that are asked for twice count once."""
    return journaled(folder, "total(prompt_tokens)")


def test_an_estimate_asks_nobody_leaves_nothing_and_holds(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with LLMServer() as server:
        chosen = asked(planted, server.url, tmp_path)
        told = document(capsys, "estimate", "--run", str(run), *chosen)
        assert not server.stats.asked
        assert not run.exists()
        assert not (tmp_path / "journal.sqlite").exists()
        document(capsys, "run", "--run", str(run), *chosen)
        after = document(capsys, "estimate", "--run", str(run), *chosen)
    cost = after["spent"]
    assert cost["requests"] == replies(tmp_path)
    for name in ("prompt_tokens", "dollars"):
        low, middle, high = told[name]
        assert low <= cost[name] <= high
        assert 0.8 * middle <= low <= high <= 1.2 * middle
    assert told["requests"] == pytest.approx(cost["requests"], rel=0.1)
    assert told["latents"] == told["sampled"] == 6
    assert told["hours"][0] < told["hours"][2]
    assert told["disk_bytes"] > 0
    assert set(told["by_purpose"]) == {
        "explain: single_pass", "score: detection", "score: detection controls",
    }  # fmt: skip
    assert sum(row["requests"] for row in told["by_llm"].values()) == pytest.approx(
        told["requests"], abs=1
    )
    assert told["sampled_explaining"] == 6
    other = {**told, "latents": 80, "sampled_explaining": 2, "measured": 2}
    print_estimate(Console(), other)
    shown = " ".join(capsys.readouterr().out.split())
    assert "from 6 of 80 latents (explaining: from 2), 2 of them with real replies" in shown
    # What is in the journal is no guess any more.
    assert after["prompt_tokens"][1] == pytest.approx(cost["prompt_tokens"], rel=0.01)
    assert after["measured"] == 6


@pytest.mark.slow
def test_what_is_spent_on_a_few_latents_is_not_lost(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with LLMServer() as server:
        chosen = asked(planted, server.url, tmp_path)
        spend = ["estimate", "--run", str(run), "--spend", "3", *chosen]
        assert "collect" in refusal(capsys, spend)
        assert main(["collect", "--json", "--run", str(run), *chosen]) == 0
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
        capsys.readouterr()
        told = document(capsys, *spend)
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
        assert told["measured"] == 3
        assert told["spent"]["requests"] == replies(tmp_path) == len(server.stats.served)
        assert not any("guess" in note for note in told["notes"])
        document(capsys, "run", "--run", str(run), *chosen)
        assert set(server.stats.served.values()) == {1}  # nothing was paid for twice
        assert len(server.stats.served) == replies(tmp_path)
    low, _, high = told["prompt_tokens"]
    assert low <= paid(tmp_path) <= high


@pytest.mark.slow
def test_what_others_have_paid_for_is_free(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with LLMServer() as server:
        chosen = asked(planted, server.url, tmp_path)
        document(capsys, "run", "--run", str(first), *chosen)
        told = document(capsys, "estimate", "--run", str(second), *chosen)
    assert (told["requests"], told["dollars"][2]) == (0, 0.0)
    assert told["spent"]["requests"] == 0


@pytest.mark.slow
def test_a_small_part_of_a_large_corpus_will_do(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(standins, "TOKENS", 40_000)
    run = tmp_path / "run"
    with LLMServer() as server:
        chosen = asked(planted, server.url, tmp_path, "corpus.tokens=60000")
        told = document(capsys, "estimate", "--run", str(run), *chosen)
        document(capsys, "run", "--run", str(run), *chosen)
    assert any("40,000 tokens of the corpus" in note for note in told["notes"])
    assert told["prompt_tokens"][1] == pytest.approx(paid(tmp_path), rel=0.4)  # rare latents


def test_it_refuses_what_a_run_refuses(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    estimate = ["estimate", "--run", str(run)]
    away = asked(planted, "https://x.invalid/v1", tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    spend = [*estimate, *away, "--spend", "1"]
    assert "OPENAI_API_KEY is not set" in refusal(capsys, spend)
    mine = settings(planted, "alive:2", "0")
    assert main(["run", "--json", "--run", str(run), *mine]) == 0
    assert "run.seed = 0" in refusal(capsys, [*estimate, *mine, "run.seed=5"])
    beyond = [*mine, "latents.a=9999999"]
    assert "out of range" in refusal(capsys, [*estimate, *beyond])


def test_pretending_needs_no_key_and_says_that_the_run_does(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    away = asked(planted, "https://x.invalid/v1", tmp_path)
    told = document(capsys, "estimate", "--run", str(tmp_path / "run"), *away)
    assert told["requests"] > 0
    needed = "the run needs an API key in the environment variable OPENAI_API_KEY"
    assert told["notes"].count(needed) == 1


def test_every_model_is_told_what_it_is_asked_itself(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"base_url": "http://127.0.0.1:1/v1", "prices": PRICES}
    llms = {name: {"model": name, **here} for name in ("explainer", "judge")}
    told = document(
        capsys, "estimate", "--run", str(tmp_path / "run"),
        *settings(planted, "alive:3", "alive:3"),
        f"llms={json.dumps(llms)}",
        f"journal={json.dumps(str(tmp_path / 'journal.sqlite'))}",
        "explainer={kind: agent, roles: llm, judge: {kind: llm}}",
        "scorers=[{kind: detection, judge: {kind: llm}}]",
        "examples.test.sampled=15",
    )  # fmt: skip
    models, purposes = told["by_llm"], told["by_purpose"]
    for quantity in ("requests", "prompt_tokens", "completion_tokens", "dollars"):
        assert sum(row[quantity] for row in models.values()) == pytest.approx(
            sum(row[quantity] for row in purposes.values()), rel=1e-4
        )
    assert models["explainer"]["requests"] == purposes["explain: agent"]["requests"]


def test_a_run_that_asks_nobody_costs_time_alone(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = settings(planted, "alive:3", "alive:2")
    told = document(capsys, "estimate", "--run", str(tmp_path / "run"), *chosen)
    assert (told["requests"], told["dollars"], told["by_llm"]) == (0, [0.0, 0, 0.0], {})
    assert told["hours"] == told["device_hours"]
    assert main(["estimate", "--run", str(tmp_path / "run"), *chosen]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "an estimate from 5 of 5 latents" in shown
    assert main(["run", "--json", "--run", str(tmp_path / "run"), *chosen]) == 0
    capsys.readouterr()
    told = document(capsys, "estimate", "--run", str(tmp_path / "run"))
    assert told["measured"] == 0  # explained, but by nobody who replies
