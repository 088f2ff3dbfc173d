"""Questions asked twice on purpose: which latents', through which key, and what it says."""

from __future__ import annotations

import asyncio
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from planted_coders import Planted
from planted_others import FakeClient, PlantedStore, build

from autointerp.config import build_config
from autointerp.latents import Label, LatentId, Metric, Score
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates
from autointerp.pipeline.repeats import REPEAT, in_order, judge_error
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.pipeline.tasks import ScoreTask
from autointerp.pipeline.tools import Tools

_TEXT = re.compile(r'^\d+\. \[".*"\]$', re.MULTILINE)
FLIPPED = 0.1


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("repeats"))


def flaky(request: Request) -> Any:
    """Labels by a hash of the question; one in ten depends on how often it was asked."""
    asked = request.messages[-1].content
    steady, moody = random.Random(asked), random.Random(f"{request.repeat} {asked}")
    count = len(_TEXT.findall(asked))
    labels = [int(steady.random() < 0.5) for _ in range(count)]
    return {"labels": [1 - x if moody.random() < FLIPPED else x for x in labels]}


def score(world: PlantedStore, client: FakeClient, folder: Path, repeats: int) -> Results:
    judge = {"kind": "llm", "repeats": repeats}
    llms = {"judge": {"model": "fake", "base_url": "http://127.0.0.1:1/v1"}}
    config = build_config(
        {
            "explainer": {"kind": "single_pass", "llm": "judge"},
            "scorers": [{"kind": "detection", "judge": judge}],
            "llms": llms,
        }
    )
    tools = Tools(config, {"judge": client}, Templates())
    explanations = [world.explanation(latent) for latent in world.latents[:8]]
    results = Results.open(folder / "r.sqlite")

    def fail(what: str, latent: LatentId, error: BaseException) -> None:
        raise AssertionError(what) from error

    async def work() -> None:
        task = ScoreTask(world.store, explanations, tools.scorers(), {}, set(), fail)
        for explanation in task.todo:
            results.put_scores(await task(explanation))

    asyncio.run(work())
    return results


def test_a_few_latents_are_asked_about_twice_and_the_error_is_found(
    world: PlantedStore, tmp_path: Path
) -> None:
    client = FakeClient(flaky)
    with score(world, client, tmp_path, 4) as results:
        scores = list(results.scores())
        again = [s.score.latent for s in scores if s.control == REPEAT]
        own = [s.score.latent for s in scores if s.control == TRUE]
        found = judge_error(results, "detection", "truth")
    assert sorted(again) == sorted(in_order(own, 4))
    assert len(own) == 8
    assert {r.repeat for r in client.requests} == {0, 1}
    texts = {r.messages for r in client.requests if r.repeat == 0}
    assert {r.messages for r in client.requests if r.repeat == 1} <= texts
    assert found is not None
    assert found["n"] >= 400
    assert found["differ"] == pytest.approx(2 * FLIPPED * (1 - FLIPPED), abs=0.05)
    assert found["error"] == pytest.approx(FLIPPED, abs=0.04)


def test_nothing_is_asked_twice_unless_wanted(world: PlantedStore, tmp_path: Path) -> None:
    client = FakeClient(flaky)
    with score(world, client, tmp_path, 0) as results:
        assert judge_error(results, "detection", "truth") is None
    asked = [json.dumps([m.content for m in r.messages]) for r in client.requests]
    assert len(set(asked)) == len(asked)


def test_answers_about_different_texts_are_no_contradictions(tmp_path: Path) -> None:
    """Of two explainers one is told apart from the other, and each from itself."""

    def scored(explainer: str, control: str, wrong: int) -> Scored:
        outcomes = [Label(True, i >= wrong, None, "activating") for i in range(10)]
        name, metrics = f"c/1:input:{explainer}", {"balanced_accuracy": Metric(0.5)}
        score = Score(
            LatentId("c", 1), name, "detection", "llm", "balanced_accuracy", 0.5, metrics, outcomes
        )
        return Scored(score, control)

    with Results.open(tmp_path / "r.sqlite") as results:
        results.put_scores(
            [
                scored("agent", TRUE, 0),
                scored("agent", REPEAT, 0),
                scored("single_pass", TRUE, 10),
                scored("single_pass", REPEAT, 7),
                scored("pattern", TRUE, 5),
            ]
        )
        same, other = (judge_error(results, "detection", e) for e in ("agent", "single_pass"))
        assert same == {"n": 10, "differ": 0, "error": 0}
        assert other is not None
        assert (other["n"], other["differ"]) == (10, pytest.approx(0.3))
        assert judge_error(results, "detection", "pattern") is None


def test_more_latents_add_to_fewer() -> None:
    latents = [LatentId("a", i) for i in range(50)]
    assert in_order(latents, 50) == in_order(latents[::-1], 50)
    fewer = [latent for latent in in_order(latents, 50) if latent.index < 20]
    assert in_order(latents[:20], 50) == fewer
    assert in_order(latents, 5) == in_order(latents, 50)[:5]
