"""Output score and input score: by hand, and on the planted subject."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import steered_world
from planted_coders import SAELENS, Planted
from steered_by_hand import World, addition, scale, steered_by_hand
from steered_world import SteeredWorld, where
from torch import Tensor

from autointerp.explainers.effects import EffectsExplainer
from autointerp.latents import Explanation, LatentId, Score
from autointerp.scorers import Materials
from autointerp.scorers.input_score import InputScorer
from autointerp.scorers.output_score import (
    OutputScoreOptions,
    OutputScorer,
    lens_tokens,
    output_value,
)
from autointerp.subject.coders import SparseCoder


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> SteeredWorld:
    return steered_world.build(planted, tmp_path_factory.mktemp("store"))


def anything(latent: LatentId) -> Explanation:
    return Explanation(latent, "not read", "by hand")


def test_the_value_by_hand() -> None:
    probabilities = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]])
    logprobs = np.log(probabilities).astype(np.float32)
    assert output_value(logprobs, [1, 3]) == pytest.approx([0.75 * 0.3, 1.0 * 0.4])
    assert output_value(logprobs, [0]) == pytest.approx([0.5, 0.25 * 0.1])


def test_latents_make_their_own_tokens_likelier_than_random_directions_do(
    world: SteeredWorld,
) -> None:
    latents = [where(latent) for latent in world.latents(3)]

    async def work(effects: EffectsExplainer) -> list[Score]:
        scorer = OutputScorer(OutputScoreOptions(prompts=8, random=2), effects=effects)
        return await asyncio.gather(
            *(scorer.score(anything(i), world.materials(i)) for i in latents)
        )

    for score in world.run(work, prompts=32):
        values = {name: metric.value for name, metric in score.metrics.items()}
        assert score.status == "scored"
        assert values["over_random"] == pytest.approx(values["steered"] - values["random"])
        assert values["over_clean"] == pytest.approx(values["steered"] - values["clean"])
        assert values["over_random"] > 0.03
        assert [o.source for o in score.outcomes].count("steered") == 8


def published_by_hand(world: SteeredWorld, latent: LatentId) -> list[float]:
    """The value of one latent, steered and clean, by a full forward pass each."""

    def steered(coder: SparseCoder, x: Tensor) -> Tensor:
        return 10 * coder.encode(x).max() * scale(coder, x) * coder.W_dec[latent.index]

    prompt = world.prefixes.of(latent, "test", 2).neutral[0]
    alone = World(world.subject, dict(world.attached), [prompt])
    lens = lens_tokens(world.materials(latent), world.prefixes.vocabulary)
    found = []
    for change in (steered, addition(latent, 0.0)):
        logprobs = steered_by_hand(alone, prompt.tolist(), SAELENS, change)
        best = logprobs[lens].max()
        found.append(float((1 - (logprobs > best).float().mean()) * best.exp()))
    return found


def test_the_published_protocol_equals_one_latent_at_a_time(world: SteeredWorld) -> None:
    latents = [where(latent) for latent in world.latents(12)]

    async def work(effects: EffectsExplainer) -> list[Score]:
        scorer = OutputScorer(OutputScoreOptions(protocol="published"), effects=effects)
        return await asyncio.gather(
            *(scorer.score(anything(i), world.materials(i)) for i in latents)
        )

    rises = []
    for latent, score in zip(latents, world.run(work), strict=True):
        assert (score.status, score.headline) == ("scored", "steered")
        assert [o.source for o in score.outcomes] == ["steered", "clean"]
        values = [score.metrics[source].value for source in ("steered", "clean")]
        assert values == pytest.approx(published_by_hand(world, latent), rel=1e-4)
        rises.append(values[0] - values[1])
    assert np.mean(rises) > 0.1


def test_without_a_logit_lens_there_is_nothing_to_score(world: SteeredWorld) -> None:
    (latent,) = (where(latent) for latent in world.latents(1))
    bare = world.materials(latent)
    bare = Materials(latent, bare.test, evidence=None)

    async def work(effects: EffectsExplainer) -> Score:
        return await OutputScorer(effects=effects).score(anything(latent), bare)

    for score in (world.run(work), asyncio.run(InputScorer().score(anything(latent), bare))):
        assert (score.status, score.reason) == (
            "too_few_examples",
            "the logit lens names no tokens",
        )


def test_input_score_is_the_share_of_windows_that_peak_on_promoted_tokens(
    world: SteeredWorld,
) -> None:
    shares = {}
    for latent in world.latents(40):
        materials = world.materials(where(latent))
        assert materials.evidence is not None
        score = asyncio.run(InputScorer().score(anything(where(latent)), materials))
        assert score.status == "scored"
        lens = set(materials.evidence.logit_lens)
        active = [i.example for i in materials.test.items if i.source == "activating"]
        peaks = [e.tokens[int(e.activations.argmax())] for e in active]
        share = np.mean([peak in lens for peak in peaks])
        assert score.metrics["share"].value == pytest.approx(share)
        assert 0 < score.metrics["common"].value < 0.5
        shares[latent.index] = share
    assert 0 < np.mean(list(shares.values())) < 0.5
