"""Steered continuations: what they are drawn from, and whose noise they share."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from steered_by_hand import VOCABULARY, World, addition, llama_world, run, steered_by_hand

from autointerp.latents import LatentId
from autointerp.subject.model import Subject
from autointerp.subject.steering import Direction, Steering


@pytest.fixture(scope="module")
def llama() -> World:
    return llama_world()


def test_samples_follow_the_steered_distribution(llama: World) -> None:
    latent, copies = LatentId("plain", 3), 1500
    prompt = llama.prompts[3]

    async def use(steering: Steering) -> Any:
        asks = [
            steering.continuations(Direction(latent), 1.0, [prompt] * copies, 2, temperature=heat)
            for heat in (1.0, 2.0)
        ]
        return await asyncio.gather(*asks)

    found = run(llama.steering(), use)
    after = steered_by_hand(llama, prompt.tolist(), "plain", addition(latent, 1.0))
    for texts, heat in zip(found, (1.0, 2.0), strict=True):
        first = np.bincount([text[0] for text in texts], minlength=VOCABULARY)
        expected = copies * (after / heat).softmax(-1).double().numpy()
        common = expected > 5
        spread = (first - expected)[common] ** 2 / expected[common]
        assert spread.sum() < common.sum() + 5 * (2 * common.sum()) ** 0.5  # chi square
        assert len({tuple(text.tolist()) for text in texts}) > 50


def test_what_noise_is_shared(llama: World) -> None:
    own, other = LatentId("plain", 3), LatentId("layer", 4)
    prompts = llama.prompts[2:] * 8

    async def use(steering: Steering) -> Any:
        def ask(direction: Direction | None, purpose: str, **named: LatentId) -> Any:
            return steering.continuations(direction, 0.0, prompts, purpose=purpose, **named)

        asks = [
            ask(Direction(own), "pair"),
            ask(Direction(other), "pair", noise_of=own),  # at strength 0 the same but for noise
            ask(None, "pair", noise_of=own),
            ask(Direction(other), "pair"),
            ask(Direction(own), "other"),
        ]
        return await asyncio.gather(*asks)

    found = [[text.tolist() for text in texts] for texts in run(llama.steering(), use)]
    assert found[0] == found[1] == found[2]
    assert found[3] != found[0] != found[4]
    assert run(llama.steering(seed=1), use)[0][0].tolist() != found[0][0]
    alike = len(prompts) // 8
    assert found[0][:alike] != found[0][alike : 2 * alike]  # copies of a prompt differ


def test_a_continuation_stops_before_the_end_of_text(llama: World) -> None:
    tokenizer = copy.deepcopy(llama.subject.tokenizer)
    world = replace(
        llama, subject=Subject(llama.subject.model, tokenizer, name="llama", context_length=40)
    )

    async def use(steering: Steering) -> Any:
        return await steering.continuations(None, 0.0, world.prompts * 5)

    whole = run(world.steering(), use)
    end = int(whole[0][2])
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    for text, cut in zip(whole, run(world.steering(), use), strict=True):
        tokens = text.tolist()
        assert cut.tolist() == (tokens[: tokens.index(end)] if end in tokens else tokens)
