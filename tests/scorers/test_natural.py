"""Precision at a latent's own rate, against counts over the whole background."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from planted import PlantedLatent
from planted_coders import SAELENS, Planted
from planted_others import PlantedStore, build

from autointerp.examples.active import neighbours_active
from autointerp.examples.contrast import contrasts
from autointerp.examples.negatives import prepare
from autointerp.judges import Judge, NoVerdict, Verdict
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import Example, LatentId, Metric, Score
from autointerp.scorers.detection import DetectionScorer
from autointerp.subject.loading import load_subject

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
        raise AssertionError("detection asks about whole windows, never about marks")


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


def test_all_windows_of_the_corpus_tell_how_often_a_latent_is_active(world: PlantedStore) -> None:
    """Those of the background are fewer: what is known of rare latents is known less well."""
    store, scorer, narrower = world.store, DetectionScorer(judge=PatternJudge()), []
    documents = store.documents
    whole = (documents["length"].astype(int) - documents["head"]).clip(0) // store.window
    assert store.window_count == whole.sum()
    for latent in world.truth.family("previous"):
        (word, *_) = latent.rule.strengths
        explanation = world.explanation(latent, f'"{word}", "the"')
        counts = store.statistics(SAELENS).window_count[latent.index]
        materials = world.materials(latent)
        whole_corpus = replace(
            materials, active_count=int(counts.sum()), window_count=store.window_count
        )
        blind, found = (
            asyncio.run(scorer.score(explanation, given)).metrics[METRIC]
            for given in (materials, whole_corpus)
        )
        assert found.low is not None
        assert found.high is not None
        assert blind.low is not None
        assert blind.high is not None
        assert max(found.low, blind.low) < min(found.high, blind.high)
        narrower.append(found.high - found.low < blind.high - blind.low)
    assert np.mean(narrower) >= 0.9


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


@pytest.fixture(scope="module")
def prepared(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    """With negatives of latents that have a near neighbour, and the neighbours."""
    made = build(planted, tmp_path_factory.mktemp("prepared"))
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    coders = {SAELENS: (made.coder, subject.hook_point("transformer.h.0"))}
    latents = made.truth.family("token_set", "either_or")
    prepare(made.store, subject, coders, [LatentId(SAELENS, i.index) for i in latents])
    return made


def test_a_neighbour_is_active_where_its_rule_holds(prepared: PlantedStore) -> None:
    store, truth = prepared.store, prepared.truth
    background = store.background("test")
    for latent in truth.family("token_set")[:4]:
        where = LatentId(SAELENS, latent.index)
        near = contrasts(store).neighbours(where)
        assert LatentId(SAELENS, truth.sibling(latent.index)) in near
        assert where not in near
        found = neighbours_active(store, where, "test")
        maxima = [store.background_maxima(other, "test") for other in near]
        np.testing.assert_array_equal(found, np.any(np.array(maxima) > 0, axis=0))
        assert found.shape == background.documents.shape
    unknown = LatentId(SAELENS, truth.family("single")[0].index)
    assert not neighbours_active(store, unknown, "test").any()


def test_false_alarms_on_a_neighbours_windows_weigh_as_much_as_there_are(
    prepared: PlantedStore,
) -> None:
    """An explanation that takes a neighbour in as well is wrong in windows with none of the
    latent's tokens; they are told of as precisely as what they weigh."""
    close, narrower = [], []
    for latent in prepared.truth.family("token_set", "either_or"):
        sibling = prepared.truth.latents[prepared.truth.sibling(latent.index)]
        words = [*latent.rule.strengths, *sibling.rule.strengths]
        text = ", ".join(f'"{word}"' for word in words)
        materials = prepared.materials(latent)
        where = materials.latent
        near = partial(neighbours_active, prepared.store, where, "test")
        found, blind = (
            asyncio.run(scorer.score(prepared.explanation(latent, text), given)).metrics.get(METRIC)
            for scorer in [DetectionScorer(judge=Dear())]
            for given in (replace(materials, background_near=near), materials)
        )
        if found is not None and found.low is not None and found.high is not None:
            counted_in_all = counted(prepared, latent, text)
            close.append(found.low - 0.05 <= counted_in_all <= found.high + 0.05)
            if blind is not None and blind.low is not None and blind.high is not None:
                narrower.append(found.high - found.low < blind.high - blind.low)
    assert len(close) >= 10
    assert np.mean(close) >= 0.8
    assert np.mean(narrower) >= 0.8
