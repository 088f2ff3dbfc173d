"""Output score and input score: by hand, and on the planted subject."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import steered_world
from given_sets import with_test, without_set
from planted_coders import SAELENS, Planted
from scripted_effects import ScriptedEffects, is_neutral, split_of
from steered_by_hand import World, addition, scale, steered_by_hand
from steered_world import SteeredWorld, where
from torch import Tensor

from autointerp.explainers.effects import EffectsExplainer
from autointerp.latents import Explanation, LatentId, Score
from autointerp.scorers.input_score import InputScorer
from autointerp.scorers.output_score import (
    OutputScoreOptions,
    OutputScorer,
    lens_tokens,
    output_value,
)
from autointerp.subject.coders import SparseCoder
from autointerp.subject.direction import Direction


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
        assert 0.5 <= values["kl_ratio"] <= 2
        assert values["unequal"] <= 1
        assert [o.source for o in score.outcomes].count("steered") == 8


def scripted(moves: Callable[[Direction, Any], float], random: int = 4) -> Score:
    """The score of a latent whose one logit-lens token is the one that all steering makes likelier:
    every value is known from how far was steered."""
    effects = ScriptedEffects(moves)
    effects.prefixes.vocabulary = ["a", "b", "c", "d"]
    latent = LatentId("c", 0)
    materials = without_set(latent, evidence=SimpleNamespace(logit_lens=["b"]))
    scorer = OutputScorer(OutputScoreOptions(random=random), effects=effects)  # type: ignore[arg-type]
    return asyncio.run(scorer.score(anything(latent), materials))


def test_neutral_prompts_say_how_far_to_steer_at_neutral_prompts() -> None:
    """A latent that moves the prompts on which it is active less has nothing of it here."""

    def moves(direction: Direction, prompt: Any) -> float:
        return 1.0 if direction.random is not None or is_neutral(prompt) else 0.25

    score = scripted(moves)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert (score.status, values["kl_ratio"], values["unequal"]) == ("scored", 1.0, 0.0)
    assert values["steered"] == pytest.approx(0.85)
    assert values["over_random"] == 0


def further_on_test(*numbers: int | None) -> Callable[[Direction, Any], float]:
    """These directions move TEST prompts ten times as far as those of SELECT."""

    def moves(direction: Direction, prompt: Any) -> float:
        if direction.random not in numbers:
            return 1.0
        return 2.5 if split_of(prompt) == "test" else 0.25

    return moves


def test_random_directions_at_another_kl_divergence_are_left_out_and_counted() -> None:
    score = scripted(further_on_test(1, 3))
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert (score.status, values["unequal"], score.metrics["unequal"].n) == ("scored", 2.0, 4)
    assert values["random"] == pytest.approx(0.85)  # steered twice as far they reach .925
    none = scripted(further_on_test(0, 1, 2, 3))
    assert none.status == "too_few_examples"
    assert none.reason == "no random direction is at the same KL divergence on TEST"
    assert none.metrics["unequal"].value == 4


def test_a_latent_at_another_kl_divergence_on_test_is_not_scored() -> None:
    score = scripted(further_on_test(None))
    assert score.status == "too_few_examples"
    assert score.reason == "on TEST the latent's KL divergence is 10.00 of the target"
    assert score.metrics["kl_ratio"].value == 10
    assert "over_random" not in score.metrics


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
    bare = with_test(latent, bare.test, evidence=None)

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
