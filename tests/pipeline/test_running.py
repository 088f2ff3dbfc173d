"""What is known of a run while it runs is what the summary of its rows says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from autointerp.latents import Cost, Explanation, LatentId, Metric, Score, Status
from autointerp.pipeline.repeats import REPEAT
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.running import Running
from autointerp.pipeline.summary import summarise

STATUSES: list[Status] = ["explained", "failed", "dead"]
SAME = ("explained", "failed", "failures", "by_status", "cost")
OF_SCORERS = ("metric", "n", "chance", "by_status")


def scored(index: int, value: float, control: str, status: str) -> Scored:
    latent = LatentId("a", index)
    metrics = {"balanced_accuracy": Metric(value, n=20), "specificity_random": Metric(value, n=10)}
    score = Score(
        latent=latent,
        explanation=f"{latent}:input:x",
        scorer="detection",
        judge="llm",
        headline="balanced_accuracy",
        chance=0.5,
        metrics=metrics if status == "scored" else {},
        outcomes=(),
        status="scored" if status == "scored" else "failed",
        reason=None if status == "scored" else "no answer in 8 attempts",
        cost=Cost(2, 20, 5, 3),
    )
    return Scored(score, control)


def drawn(seed: int) -> list[Any]:
    rng = random.Random(seed)
    return [
        (index, rng.choice(STATUSES), rng.random(), rng.choice(["scored", "failed"]), index % 2)
        for index in range(rng.randint(1, 12))
    ]


@pytest.mark.parametrize("seed", range(8))
def test_it_is_what_the_rows_come_to(tmp_path: Path, seed: int) -> None:
    written = drawn(seed)
    half = len(written) // 2
    with Results.open(tmp_path / "r.sqlite") as results:
        put(results, written[:half])
        results.watcher = running = Running(results)  # the rest is told
        put(results, written[half:])
        summary = summarise(results, run=tmp_path, explainer="x", planned=0, seconds=0.0)
    agree(running.document("x"), summary)


def agree(found: dict[str, Any], summary: dict[str, Any]) -> None:
    assert {name: found[name] for name in SAME} == {name: summary[name] for name in SAME}
    for scorer, figures in summary["scores"].items():
        mine = found["scores"][scorer]
        assert {name: mine[name] for name in OF_SCORERS} == {n: figures[n] for n in OF_SCORERS}
        if figures["n"]:
            assert mine["mean"] == pytest.approx(figures["mean"])
            assert mine["controls"] == pytest.approx(figures["controls"])
            assert mine["by_source"] == pytest.approx(figures["by_source"])


def put(results: Results, written: list[Any]) -> None:
    for index, status, value, of_score, controlled in written:
        latent, cost = LatentId("a", index), Cost(1, 10, 2, 4, 0.5)
        results.put_explanation(Explanation(latent, "t", "x", status=status, cost=cost))
        scores = [scored(index, value, "", of_score)]
        scores += [scored(index, 1 - value, "shuffled", "scored")] if controlled else []
        results.put_scores(scores)


def test_what_failed_and_is_done_again_counts_once(tmp_path: Path) -> None:
    with Results.open(tmp_path / "r.sqlite") as results:
        results.watcher = running = Running(results)
        for status in ("failed", "explained"):
            reason = "RuntimeError: x" if status == "failed" else None
            latent = LatentId("a", 0)
            results.put_explanation(
                Explanation(latent, "t", "x", status=status, reason=reason)  # type: ignore[arg-type]
            )
            results.put_scores([scored(0, 0.7, "", "scored" if status != "failed" else "failed")])
            if status == "failed":
                found = running.document("x")
                assert found["failures"] == {"RuntimeError": 1, "no answer": 1}
                assert found["failed"] == 1
    found = running.document("x")
    assert (found["failed"], found["failures"]) == (0, {})
    assert found["by_status"] == {"explained": 1}
    assert found["scores"]["detection"]["by_status"] == {"scored": 1}


def test_what_is_replaced_is_in_no_sum(tmp_path: Path) -> None:
    """Another text takes the place of the first, and its scores go."""
    with Results.open(tmp_path / "r.sqlite") as results:
        results.watcher = running = Running(results)
        for text, value in (("first", 0.9), ("second", 0.6)):
            explanation = Explanation(LatentId("a", 0), text, "x", cost=Cost(1, 10))
            results.replace_explanation(explanation)
            controls = ("", "shuffled", REPEAT)
            results.put_scores([scored(0, value, control, "scored") for control in controls])
        summary = summarise(results, run=tmp_path, explainer="x", planned=0, seconds=0.0)
    found = running.document("x")
    agree(found, summary)
    assert found["scores"]["detection"]["controls"] == {"shuffled": 0.6}
    assert found["cost"]["requests"] == 1 + 3 * 2


def test_rows_of_another_file_are_counted(tmp_path: Path) -> None:
    with (
        Results.open(tmp_path / "shard.sqlite") as shard,
        Results.open(tmp_path / "r.sqlite") as results,
    ):
        put(shard, drawn(0))
        put(results, drawn(1))
        results.watcher = running = Running(results)
        results.put_rows("explanations", shard.query("SELECT * FROM explanations"))
        results.put_rows("scores", shard.query("SELECT * FROM scores"))
        summary = summarise(results, run=tmp_path, explainer="x", planned=0, seconds=0.0)
    agree(running.document("x"), summary)
