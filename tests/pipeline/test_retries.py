"""Failures are left alone until they are to be tried again; then they ask anew, once a round."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from llm_models import Model, question_of
from llm_runs import AT_ONCE, Recorder, World, rows, world
from llm_server import Body
from planted_coders import Planted
from small_run import document, start

from autointerp.cli import main
from autointerp.llm.anew import REPEATS
from autointerp.llm.journal import key_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.retries import NO_RETRY, finish_retry, retry_of

EXPLAIN = "explainer={kind: single_pass}"
UNUSABLE = "I would rather not say."

pytestmark = pytest.mark.usefixtures("at_once")


class Sulking(Model):
    """Gives no usable answer to some questions, the first few times that each is asked."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.asked: Counter[str] = Counter()

    def __call__(self, body: Body) -> Any:
        asked = question_of(body)
        repair = body["messages"][-1]["content"] != asked
        self.asked[asked] += not repair
        if hash_of(asked) % 2 and self.asked[asked] <= self.times:
            return UNUSABLE
        return super().__call__(body)


def hash_of(text: str) -> int:
    return sum(text.encode())


def failed(run: Path) -> list[str]:
    with Results.read(run / "results.sqlite") as results:
        return [str(e.latent) for e in results.explanations() if e.status == "failed"]


def test_what_failed_asks_anew_and_only_when_asked_to(
    tmp_path: Path, planted: Planted, collected: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world(tmp_path, planted, collected)
    with Recorder(Sulking(1)) as server:
        assert main(run.command(server, EXPLAIN)) == 1
        assert 1 < len(failed(run.run)) < 7
        check_left_alone(run, server, capsys)
        check_asked_anew(run, server, capsys)
        check_journal(run, server)


def check_left_alone(run: World, server: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    before, asked = rows(run.run), len(server.seen)
    capsys.readouterr()
    assert main(run.command(server, EXPLAIN)) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1].rstrip(":") for line in said[:-1]] == failed(run.run)
    assert all("no usable reply, nor after one repair" in line for line in said[:-1])
    assert said[-1] == f"try them again: autointerp run --run {run.run} --retry-failed"
    assert (rows(run.run), len(server.seen)) == (before, asked)


def check_asked_anew(run: World, server: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    (before, scores), again = rows(run.run), set(failed(run.run))
    capsys.readouterr()
    found = document(capsys, "run", "--run", str(run.run), "--retry-failed")
    assert (found["failed"], found["latents"]) == (0, 7)
    after, more_scores = rows(run.run)
    kept = [e for e in before if str(e.latent) not in again]
    assert [e for e in after if str(e.latent) not in again] == kept
    assert {str(e.latent) for e in after if e.status == "explained"} >= again
    assert {str(s.score.latent) for s in more_scores} - {str(s.score.latent) for s in scores}
    asked = len(server.seen)
    document(capsys, "run", "--run", str(run.run), "--retry-failed")  # nothing failed any more
    assert len(server.seen) == asked


@pytest.mark.slow
def test_each_round_tries_once(tmp_path: Path, planted: Planted, collected: Path) -> None:
    run = world(tmp_path, planted, collected)
    with Recorder(Sulking(10**9)) as server:
        command = run.command(server, EXPLAIN)
        assert main(command) == 1
        first = failed(run.run)
        for number in (1, 2):
            asked = len(server.seen)
            assert main([*command, "--retry-failed"]) == 1
            assert failed(run.run) == first
            assert len(server.seen) - asked == 2 * len(first)  # a question and a repair each
            with Results.read(run.run / "results.sqlite") as results:
                rounds = [
                    e.details["round"]
                    for e in results.explanations(details=True)
                    if e.status == "failed"
                ]
            assert rounds == [number] * len(first)


@pytest.mark.slow
def test_a_round_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, planted: Planted, collected: Path
) -> None:
    alone, killed = (world(tmp_path / name, planted, collected) for name in ("alone", "killed"))
    left: list[Any] = []
    asked: list[int] = []
    for run in (alone, killed):
        with Recorder(Sulking(10**9), latency=0.05) as server:
            command = run.command(server, EXPLAIN, "engine.concurrency=1")
            assert main(command) == 1
            before = len(server.seen)
            if run is killed:
                process = start([*command, "--retry-failed"], AT_ONCE)
                while len(server.seen) < before + 4 and process.poll() is None:
                    time.sleep(0.002)
                process.kill()
                process.communicate()
                assert process.returncode < 0
            assert main([*command, "--retry-failed"]) == 1
            asked.append(len(server.seen) - before)
            left.append(rows(run.run))
    assert left[1] == left[0]
    assert asked[0] <= asked[1] <= asked[0] + 1  # what was in flight


def test_a_round_is_of_all_stages_of_its_command(tmp_path: Path) -> None:
    with Results.open(tmp_path / "results.sqlite") as results:
        both = ("explain", "score")
        assert retry_of(results, "explain", ()) is NO_RETRY
        assert retry_of(results, "explain", both).round == 1
        finish_retry(results, "explain")
        assert retry_of(results, "explain", both) is NO_RETRY  # killed while it scored
        assert retry_of(results, "score", both).round == 1
        finish_retry(results, "score")
        assert retry_of(results, "explain", both).round == 2
        assert retry_of(results, "score", both).round == 2
        assert retry_of(results, "score", ("score",)).round == 2
        finish_retry(results, "score")
        assert retry_of(results, "score", ("score",)).round == 3


def check_journal(run: World, server: Recorder) -> None:
    """It has the answers of every round, under keys of their own."""
    with sqlite3.connect(run.journal) as connection:
        keys = {row[0] for row in connection.execute("SELECT key FROM replies")}
    raws = {seen.raw for seen in server.seen}
    where = f"openai {server.url}"
    rounds = [{raw for raw in raws if key_of(where, raw, n * REPEATS) in keys} for n in (0, 1)]
    assert rounds[0] & rounds[1]
