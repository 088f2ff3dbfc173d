"""Precision at a latent's own rate, against counts over the whole background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from planted import PlantedLatent
from planted_coders import Planted
from planted_others import PlantedStore, build

from autointerp.judges import Judge, NoVerdict, Verdict
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import Example, LatentId, Metric, Score
from autointerp.scorers.detection import DetectionScorer

METRIC = "natural_precision"


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("natural"))


class Dear:
    """Answers as patterns do, but reads only what it is asked about."""

    name = "dear"

    def __init__(self) -> None:
        self._pattern = PatternJudge()

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        return await self._pattern.detect(explanation, examples, latent=latent)

    async def fuzz(self, *_: Any, **__: Any) -> list[Verdict | NoVerdict]:
        raise NotImplementedError


def score(
    world: PlantedStore, latent: PlantedLatent, text: str | None = None, judge: Judge | None = None
) -> Score:
    scorer = DetectionScorer(judge=judge or PatternJudge())
    return asyncio.run(scorer.score(world.explanation(latent, text), world.materials(latent)))


def counted(world: PlantedStore, latent: PlantedLatent, text: str) -> float:
    """The precision of the pattern over every window of the background."""
    materials = world.materials(latent)
    assert materials.background is not None
    assert materials.background_maxima is not None
    said = PatternJudge().covers(text, materials.background)
    return float((materials.background_maxima[said] > 0).mean())


def test_a_free_judge_reads_the_whole_background(world: PlantedStore) -> None:
    for latent in world.truth.family("previous", "token_set")[::5]:
        found = score(world, latent).metrics[METRIC]
        assert found.value >= 0.98
        (word, *_) = latent.rule.strengths
        broad = f'"{word}", "the"'
        metric = score(world, latent, broad).metrics[METRIC]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low - 0.02 <= counted(world, latent, broad) <= metric.high + 0.02
        assert metric.value < 0.5


def test_a_broad_explanation_is_less_precise_than_on_a_balanced_set(world: PlantedStore) -> None:
    latent = world.truth.family("previous")[0]
    (word,) = latent.rule.strengths
    metrics = score(world, latent, f'"{word}", "of"').metrics
    assert metrics[METRIC].value < metrics["precision"].value - 0.1


def test_a_dear_judges_strata_tell_the_same(world: PlantedStore) -> None:
    close = []
    for latent in world.truth.family("previous", "earlier", "unless")[::3]:
        (word,) = latent.rule.strengths
        for text in (f'"{word}"', f'"{word}", "of"'):
            found = score(world, latent, text, Dear()).metrics.get(METRIC)
            if found is not None:
                assert isinstance(found, Metric)
                assert found.low is not None
                assert found.high is not None
                close.append(found.low - 0.05 <= counted(world, latent, text) <= found.high + 0.05)
    assert len(close) >= 8
    assert np.mean(close) >= 0.8
