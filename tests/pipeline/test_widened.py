"""The intervals of discrimination, whose windows are judged several in one request."""

from __future__ import annotations

import asyncio

import pytest
from planted_coders import Planted
from planted_others import FakeClient, build

from autointerp.judges.llm import LLMJudge
from autointerp.latents import Score
from autointerp.llm.templates import Templates
from autointerp.pipeline.widened import widened
from autointerp.scorers.discrimination import DiscriminationScorer
from autointerp.statistics import Tally, balanced_accuracy, wilson


@pytest.fixture(scope="module")
def score(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Score:
    """By a model that always chooses the first explanation."""
    world = build(planted, tmp_path_factory.mktemp("widened"))
    client = FakeClient(lambda request: {"choices": [1] * 5})
    judge = LLMJudge(client=client, templates=Templates())
    scorer = DiscriminationScorer(judge=judge, others=world.others())
    latent = world.latents[0]
    return asyncio.run(scorer.score(world.explanation(latent), world.materials(latent)))


def test_the_headline_has_the_interval_of_its_two_rates(score: Score) -> None:
    found = widened(score.metrics, 1.8)
    tallies = []
    for name in ("recall", "rejected"):
        metric = score.metrics[name]
        tallies.append(Tally(metric.n, round(metric.n * metric.value)))
        interval = wilson(tallies[-1], design_effect=1.8)
        assert (found[name].low, found[name].high) == (interval.low, interval.high)
    interval = balanced_accuracy(*tallies, design_effect=1.8)
    told, narrow = found["told_apart"], score.metrics["told_apart"]
    assert (told.value, told.n) == (narrow.value, narrow.n)
    assert (told.low, told.high) == (interval.low, interval.high)
    assert narrow.low is not None
    assert narrow.high is not None
    assert interval.low < narrow.low < narrow.high < interval.high
