"""Explanations of what latents cause, on the planted subject and by a scripted language model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import steered_world
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer
from numpy.typing import NDArray
from planted_coders import Planted
from steered_world import SteeredWorld, where

from autointerp.config import build_config
from autointerp.examples.sampling import evidence
from autointerp.explainers.effects import EffectsExplainer, EffectsOptions
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.latents.scales import Scale
from autointerp.llm.templates import Templates
from autointerp.patterns import Token, parse
from autointerp.registry import explainers
from autointerp.subject.direction import Direction
from autointerp.subject.strengths import Strength

VOCABULARY = ["a", "b", 'say "c"', "d\n", "e", ""]


class FixedPrefixes:
    """The same prompts for every latent."""

    vocabulary: Sequence[str] = VOCABULARY

    def of(self, latent: LatentId, split: str, count: int) -> Any:
        return FixedPrompts()


class FixedPrompts:
    all = [np.array([i], np.int32) for i in range(20)]  # noqa: RUF012 – never changed

    def __len__(self) -> int:
        return len(self.all)


class FixedSteering:
    """Moves every prompt from one distribution to another."""

    def __init__(self, steered: Sequence[float], reachable: bool = True) -> None:
        self.steered, self.reachable = np.array(steered), reachable
        self.searches = 0

    def is_signed(self, coder: str) -> bool:
        return False

    async def strength(self, direction: Direction, prompts: Any, target: float) -> Strength:
        self.searches += 1
        await asyncio.sleep(0)
        return Strength(3.0, target if self.reachable else 0.2, self.reachable)

    async def next_tokens(
        self, direction: Direction, s: float, prompts: Sequence[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        clean = np.full((len(prompts), 6), np.log(1 / 6), np.float32)
        return clean, np.log(np.tile(self.steered, (len(prompts), 1))).astype(np.float32)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> SteeredWorld:
    return steered_world.build(planted, tmp_path_factory.mktemp("store"))


def explainer(steering: FixedSteering, **arguments: Any) -> EffectsExplainer:
    return EffectsExplainer(steering=steering, prefixes=FixedPrefixes(), **arguments)  # type: ignore[arg-type]


def named(text: str) -> set[str]:
    (clause,) = parse(text).clauses
    return {atom.text for atom in clause.match if isinstance(atom, Token)}


def test_planted_latents_are_explained_by_the_tokens_that_they_promote(
    world: SteeredWorld,
) -> None:
    latents = world.latents(5)

    async def work(effects: EffectsExplainer) -> list[Explanation]:
        return await asyncio.gather(*(world.explain(effects, where(i)) for i in latents))

    for latent, explanation in zip(latents, world.run(work), strict=True):
        assert explanation.kind == "output"
        assert explanation.status == "explained"
        assert set(latent.promoted) <= named(explanation.text)
        assert len(named(explanation.text)) <= 6  # the decoder row leans to the sibling's
        assert abs(explanation.details["kl"] - 1) <= 0.05
        scale = Scale.of_evidence(evidence(world.store, where(latent)))
        assert scale is not None
        over = explanation.details["strength"] / scale.strong
        assert explanation.details["over_maximum"] == pytest.approx(over)
        assert 0.01 < explanation.details["over_state"] < 10


def test_latents_of_signed_coders_have_two_effects(world: SteeredWorld) -> None:
    latents, two_sided = world.latents(3), steered_world.signed(world)

    async def work(effects: EffectsExplainer) -> list[Explanation]:
        return await asyncio.gather(*(world.explain(effects, where(i)) for i in latents))

    for latent, explanation in zip(latents, two_sided.run(work, prompts=32), strict=True):
        negative = explanation.details["negative"]
        assert (explanation.status, negative["reason"]) == ("explained", None)
        assert set(latent.promoted) <= named(explanation.text)
        assert set(steered_world.opposite(world, latent).promoted) <= named(negative["text"])
        assert abs(negative["kl"] - 1) <= 0.05


def test_a_random_direction_is_explained_by_the_same_pipeline(world: SteeredWorld) -> None:
    (latent,) = world.latents(1)

    async def work(effects: EffectsExplainer) -> tuple[Explanation, Explanation]:
        null = Direction(where(latent), 0)
        return await effects.write(null), await effects.write(Direction(where(latent)))

    null, own = world.run(work)
    assert null.status == "explained"
    assert null.details["strength"] != own.details["strength"]
    assert null.text != own.text
    assert null.details["over_maximum"] is None  # it has no activations


def test_tokens_are_named_by_the_size_of_their_rise() -> None:
    steering = FixedSteering([0.3, 0.01, 0.45, 0.17, 0.01, 0.06])
    effects = explainer(steering)
    explanation = asyncio.run(effects.write(Direction(LatentId("c", 0))))
    assert explanation.text == '"say␣\\"c\\"", "a"'  # "d\n" rises by less than a tenth of "c"
    assert [row[0] for row in explanation.details["promoted"]][:2] == ['say "c"', "a"]


def test_strengths_are_found_once_for_all_who_ask() -> None:
    steering = FixedSteering([1 / 6] * 6)
    effects = explainer(steering)

    async def work() -> None:
        one, two = Direction(LatentId("c", 0)), Direction(LatentId("c", 1))
        await asyncio.gather(*map(effects.strength, [one, two, one, two]))
        await asyncio.gather(effects.strength(one, one.latent), effects.strength(one, two.latent))

    asyncio.run(work())
    assert steering.searches == 3


def test_what_cannot_be_explained_says_why() -> None:
    direction = Direction(LatentId("c", 0))
    far = asyncio.run(explainer(FixedSteering([1 / 6] * 6, reachable=False)).write(direction))
    assert (far.status, far.text) == ("no_explanation", "")
    assert far.reason == "unreachable: the KL divergence saturates at 0.2 nats"
    still = asyncio.run(explainer(FixedSteering([1 / 6] * 6)).write(direction))
    assert (still.status, still.reason) == ("no_explanation", "no token gets likelier")


def worded(server: LLMServer, folder: Path) -> Explanation:
    async def work(llms: Any) -> Explanation:
        options = EffectsOptions(roles="llm", llm="judge")
        effects = explainer(
            FixedSteering([0.3, 0.01, 0.35, 0.27, 0.01, 0.06]),
            options=options, client=llms.clients["judge"], templates=Templates(),
        )  # fmt: skip
        return await effects.write(Direction(LatentId("c", 0)))

    return run(server, folder, work)


def test_a_language_model_words_it_from_the_tokens(tmp_path: Path) -> None:
    seen: list[Body] = []

    def answer(body: Body) -> Any:
        seen.append(body)
        return {"description": "brings about letters", "label": "letters"}

    with LLMServer(answer) as server:
        explanation = worded(server, tmp_path)
    assert explanation.text == "brings about letters"
    assert (explanation.kind, explanation.status) == ("output", "explained")
    lines = re.findall(r"^\d+\. (\{.*\})$", seen[0]["messages"][-1]["content"], re.MULTILINE)
    assert [json.loads(line)["token"] for line in lines] == ['say "c"', "a", "d\n"]
    assert json.loads(lines[0]) == {"token": 'say "c"', "before": "16.67%", "after": "35.00%"}


def test_a_model_that_gives_nothing_usable_fails_the_latent_alone(tmp_path: Path) -> None:
    with LLMServer(lambda body: {"description": "", "label": ""}) as server:
        explanation = worded(server, tmp_path)
    assert (explanation.status, explanation.text) == ("failed", "")


def test_the_wording() -> None:
    tokens = [
        {"text": '" rain"', "clean": "0.10%", "steered": "21.00%"},
        {"text": '"\\n"', "clean": "4.00%", "steered": "7.25%"},
    ]
    check_golden("explainer/effects", Templates().render("explainer/effects", tokens=tokens))


def test_it_belongs_under_effects_and_nowhere_else() -> None:
    assert explainers.get("effects").options().needs() == {"steering", "prefixes"}
    with pytest.raises(AutointerpError, match="explainer: effects writes output explanations"):
        build_config({"explainer": {"kind": "effects"}})
    with pytest.raises(AutointerpError, match="effects: pattern writes input explanations"):
        build_config({"effects": {"kind": "pattern"}})


def test_a_run_steers_where_a_scorer_needs_it() -> None:
    plain = build_config({})
    assert not plain.writes_outputs
    assert "steering" not in plain.needs("explain") | plain.needs("score")
    causal = build_config({"scorers": [{"kind": "intervention"}]})
    assert causal.writes_outputs
    assert "steering" in causal.needs("explain") & causal.needs("score")
    lens = build_config({"scorers": [{"kind": "output_score"}]})
    assert not lens.writes_outputs
    assert "steering" in lens.needs("score") - lens.needs("explain")


def test_a_judge_of_patterns_is_refused_for_effects_in_words() -> None:
    tree = {
        "effects": {"roles": "llm"},
        "llms": {"explainer": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}},
        "scorers": [{"kind": "intervention"}],
    }
    with pytest.raises(AutointerpError, match=r"scorers\.0\.judge: pattern reads patterns alone"):
        build_config(tree)
