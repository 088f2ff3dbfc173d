"""Steering against a naive loop: one row at a time, a full forward pass, plain hooks, no cache."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from planted_coders import SAELENS, Planted
from steered_by_hand import (
    VOCABULARY,
    WIDTH,
    World,
    ablation,
    addition,
    llama_world,
    planted_world,
    random_coder,
    run,
    steered_by_hand,
)
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.coders import SparseCoder
from autointerp.subject.directions import Directions
from autointerp.subject.model import Subject
from autointerp.subject.probing import ProbeQueue
from autointerp.subject.rollout import Rollout
from autointerp.subject.steering import Direction, Steering


@pytest.fixture(scope="module")
def llama() -> World:
    return llama_world()


@pytest.fixture(scope="module")
def words(planted: Planted) -> World:
    return planted_world(planted)


@pytest.fixture(params=["llama", "words"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


def test_next_tokens_agree_with_a_full_pass_a_row(world: World) -> None:
    latents = world.latents()

    async def use(steering: Steering) -> Any:
        asks = (steering.next_tokens(Direction(one), 2.5, world.prompts) for one in latents)
        return await asyncio.gather(*asks)

    for latent, (clean, steered) in zip(latents, run(world.steering(), use), strict=True):
        assert clean.dtype == steered.dtype == np.float32
        for i, prompt in enumerate(world.prompts):
            for found, s in ((clean, 0.0), (steered, 2.5)):
                expected = steered_by_hand(
                    world, prompt.tolist(), latent.coder, addition(latent, s)
                )
                np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=2e-5)
        assert np.abs(clean - steered).max() > 0.01


def test_ablation_takes_the_latents_own_part_away(world: World) -> None:
    prompts = world.prompts
    latents = [
        LatentId(name, i) for name, found in world.attached.items() for i in active(world, name)
    ]

    async def use(steering: Steering) -> Any:
        return await asyncio.gather(*(steering.ablated(one, prompts) for one in latents))

    changed = 0
    for latent, (clean, without) in zip(latents, run(world.steering(), use), strict=True):
        for i, prompt in enumerate(prompts):
            expected = steered_by_hand(world, prompt.tolist(), latent.coder, ablation(latent))
            np.testing.assert_allclose(without[i], expected, rtol=1e-4, atol=2e-5)
        changed += bool(np.abs(clean - without).max() > 1e-3)
    assert changed > len(world.attached)  # nearly all


def test_peaks_are_the_largest_activations_in_size(world: World) -> None:
    latents = world.latents()

    async def use(steering: Steering) -> Any:
        return await asyncio.gather(*(steering.peaks(one, world.prompts) for one in latents))

    for latent, found in zip(latents, run(world.steering(), use), strict=True):
        expected = [largest(world, prompt.tolist(), latent) for prompt in world.prompts]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert max(expected) > 0


def largest(world: World, prompt: list[int], latent: LatentId) -> float:
    """Of the latents of a coder, at the prompt's last token, by a full pass."""
    seen: list[float] = []

    def look(coder: SparseCoder, x: Tensor) -> Tensor:
        seen.append(float(coder.encode(x.float()).abs().max()))
        return addition(latent, 0.0)(coder, x)

    steered_by_hand(world, prompt, latent.coder, look)
    return seen[0]


def active(world: World, name: str) -> list[int]:
    """Two latents that are active at the end of some prompt."""
    coder, hook, _ = world.attached[name]
    sums = torch.zeros(coder.d_sae)
    for batch in world.subject.activations(world.prompts, [hook]):
        for state, length in zip(batch.states[hook], batch.lengths, strict=True):
            sums += coder.encode(state[length - 1 : length])[0].abs()
    order: list[int] = sums.argsort(descending=True)[:2].tolist()
    return order


def test_greedy_continuations_agree_with_a_full_pass_a_token(world: World) -> None:
    latents = world.latents()
    signs = [(-1.0) ** i for i in range(len(latents))]

    async def use(steering: Steering) -> Any:
        asks = [
            steering.continuations(Direction(one, sign=sign), 2.0, world.prompts, 5, temperature=0)
            for one, sign in zip(latents, signs, strict=True)
        ]
        clean = steering.continuations(None, 0.0, world.prompts, 5, temperature=0)
        return await asyncio.gather(clean, *asks)

    clean, *found = run(world.steering(), use)
    changes = [(latents[0].coder, addition(latents[0], 0.0))]
    changes += [
        (one.coder, addition(one, 2.0 * sign)) for one, sign in zip(latents, signs, strict=True)
    ]
    for texts, (name, change) in zip([clean, *found], changes, strict=True):
        for prompt, text in zip(world.prompts, texts, strict=True):
            row = prompt.tolist()
            for token in text.tolist():
                after = steered_by_hand(world, row, name, change, begin=len(prompt) - 1)
                assert after[token] > after.max() - 1e-3
                row.append(token)
            assert text.dtype == np.int32
            assert len(text) == 5
    assert any(a.tolist() != b.tolist() for a, b in zip(clean, found[0], strict=True))


def test_results_do_not_depend_on_the_batch(world: World) -> None:
    latents = world.latents()
    texts = world.prompts[2:]

    async def ask(steering: Steering, latent: LatentId) -> Any:
        random = Direction(latent, random=1)
        strength = await steering.strength(Direction(latent), world.prompts, 0.5)
        other = await steering.strength(random, world.prompts, 0.5)
        shown = await steering.continuations(Direction(latent), strength.s, world.prompts * 2)
        return strength, other, [text.tolist() for text in shown]

    async def together(steering: Steering) -> Any:
        return await asyncio.gather(*(ask(steering, one) for one in latents))

    def alone(latent: LatentId) -> Any:
        return run(world.steering(texts=texts), lambda steering: ask(steering, latent))

    for latent, found in zip(latents, run(world.steering(texts=texts), together), strict=True):
        expected = alone(latent)
        for a, b in zip(found[:2], expected[:2], strict=True):
            assert a.reachable == b.reachable
            assert a.s == pytest.approx(b.s, rel=1e-4)
            assert a.kl == pytest.approx(b.kl, rel=1e-4)
        assert found[2] == expected[2]


def test_prompts_of_one_token_have_nothing_before_them(llama: World) -> None:
    direction = Direction(LatentId("plain", 3))
    short = llama.prompts[:1]

    async def use(steering: Steering) -> Any:
        alone, _ = await steering.next_tokens(direction, 2.0, short)
        beside, _ = await steering.next_tokens(direction, 2.0, [*llama.prompts[1:], *short])
        return alone[0], beside[-1], await steering.continuations(direction, 2.0, short * 3)

    alone, beside, texts = run(llama.steering(), use)
    np.testing.assert_allclose(alone, beside, rtol=1e-4, atol=1e-6)
    assert [len(text) for text in texts] == [8, 8, 8]


def test_strengths_reach_the_target_by_a_plain_measurement(world: World) -> None:
    latents = world.latents()

    async def use(steering: Steering) -> Any:
        asks = (steering.strength(Direction(one), world.prompts, 0.3) for one in latents)
        return await asyncio.gather(*asks)

    reached = 0
    for latent, found in zip(latents, run(world.steering(), use), strict=True):
        kls = []
        for prompt in world.prompts:
            p, q = (
                steered_by_hand(world, prompt.tolist(), latent.coder, addition(latent, s))
                for s in (0.0, found.s)
            )
            kls.append(float((p.exp() * (p - q)).sum()))
        assert np.mean(kls) == pytest.approx(found.kl, rel=1e-3, abs=1e-5)
        assert found.reachable == (abs(found.kl / 0.3 - 1) <= 0.05)
        reached += found.reachable
    assert reached >= 0.9 * len(latents)


def test_half_precision_adds_in_full(llama: World) -> None:
    """The smallest step of bfloat16 near 1 is 0.008: a sum rounded once moves less than two."""
    model = copy.deepcopy(llama.subject.model).to(torch.bfloat16)
    subject = Subject(model, llama.subject.tokenizer, name="half", context_length=40)
    world = replace(llama, subject=subject)
    latent = LatentId("plain", 3)

    async def use(steering: Steering) -> Any:
        return await steering.next_tokens(Direction(latent), 1.5, world.prompts)

    _, steered = run(world.steering(), use)
    for found, prompt in zip(steered, world.prompts, strict=True):
        expected = steered_by_hand(world, prompt.tolist(), "plain", addition(latent, 1.5))
        p, q = expected.double(), torch.from_numpy(found).double()
        assert float((p.exp() * (p - q)).sum()) < 2e-3


def test_what_a_random_direction_is(llama: World) -> None:
    random = np.random.default_rng(1)
    texts = [random.integers(0, VOCABULARY, 30).astype(np.int32) for _ in range(20)]
    directions = Directions(llama.subject, llama.attached, texts, seed=5)
    latent, hook = LatentId("transcoder", 3), llama.attached["transcoder"][2]
    assert hook is not None
    drawn = torch.stack([directions.vector(Direction(latent, random=i)) for i in range(3000)])
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(3000))
    states = [b.states[hook][:, 1:] for b in llama.subject.activations(texts, [hook])]
    covariance = torch.cat(states).flatten(0, 1).T.cov()
    found, expected = (m / m.trace() for m in (drawn.T.cov(), covariance))
    variances = torch.linalg.eigvalsh(expected)
    assert float((found - expected).norm() / expected.norm()) < 0.2  # length 1 shrinks the largest
    assert float(variances[-1] / variances[0]) > 20  # far from a direction with equal odds
    again = Directions(llama.subject, llama.attached, texts, seed=5)
    for one in (Direction(latent, random=7), Direction(latent, random=7, sign=-1.0)):
        torch.testing.assert_close(again.vector(one), one.sign * drawn[7])
    other = Directions(llama.subject, llama.attached, texts, seed=6)
    assert float((other.vector(Direction(latent, random=7)) - drawn[7]).norm()) > 0.1


def test_planted_latents_raise_the_tokens_they_promote(planted: Planted, words: World) -> None:
    latents = [one for one in planted.truth.latents if one.promoted][:12]
    prompts = words.prompts

    async def ask(steering: Steering, index: int) -> Any:
        direction = Direction(LatentId(SAELENS, index))
        strength = await steering.strength(direction, prompts)
        return strength, *await steering.next_tokens(direction, strength.s, prompts)

    async def use(steering: Steering) -> Any:
        return await asyncio.gather(*(ask(steering, one.index) for one in latents))

    for latent, (strength, clean, steered) in zip(latents, run(words.steering(), use), strict=True):
        assert strength.reachable
        assert strength.kl == pytest.approx(1.0, rel=0.05)
        gains = (steered - clean).mean(0)
        risen = {planted.truth.vocabulary[i] for i in np.argsort(-gains)[:3]}
        assert risen == set(latent.promoted)


def test_strengths_that_cannot_be_reached_say_where_they_saturate(llama: World) -> None:
    coder, hook, _ = llama.attached["plain"]
    empty = replace(coder, W_dec=coder.W_dec.clone())
    empty.W_dec[5] = 0.0
    world = replace(llama, attached={"plain": (empty, hook, None)})

    async def use(steering: Steering) -> Any:
        asks = [(LatentId("plain", 5), 1.0), (LatentId("plain", 3), 60.0)]
        return await asyncio.gather(
            *(steering.strength(Direction(one), world.prompts, target) for one, target in asks)
        )

    nothing, saturated = run(world.steering(), use)
    assert (nothing.s, nothing.kl, nothing.reachable) == (0.0, 0.0, False)
    assert not saturated.reachable
    assert 1.0 < saturated.kl < 60.0


def test_batches_that_do_not_fit_are_halved(llama: World, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sizes = Rollout.step, []

    def narrow(self: Rollout, ids: Tensor, *rest: Any) -> Tensor:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("no more")
        sizes.append(len(ids))
        return plain(self, ids, *rest)

    direction = Direction(LatentId("topk", 3))

    async def use(steering: Steering) -> Any:
        kl = await steering.kl(direction, 2.0, llama.prompts)
        return kl, await steering.continuations(direction, 2.0, llama.prompts * 2)

    expected_kl, expected = run(llama.steering(), use)
    monkeypatch.setattr(Rollout, "step", narrow)
    kl, found = run(llama.steering(), use)
    assert kl == pytest.approx(expected_kl, rel=1e-5)
    assert [a.tolist() for a in found] == [b.tolist() for b in expected]
    assert max(sizes) == 3
    monkeypatch.setattr(Rollout, "step", never_fits)
    with pytest.raises(AutointerpError, match="steering one prompt does not fit on cpu"):
        run(llama.steering(), use)


def never_fits(*_: Any) -> Tensor:
    raise torch.OutOfMemoryError("no more")


def test_measuring_probes_meanwhile_changes_neither(planted: Planted, words: World) -> None:
    subject, attached = words.subject, words.attached
    coders = {name: (coder, hook) for name, (coder, hook, _) in attached.items()}
    texts = [" ".join(text.split()[i : i + 20]) for i, text in enumerate(planted.texts[:60])]
    latent = LatentId(SAELENS, 3)

    async def steer(steering: Steering) -> list[float]:
        asks = (steering.kl(Direction(latent), s, words.prompts) for s in range(1, 9))
        return [await ask for ask in asks]

    async def probe() -> list[list[float]]:
        async with ProbeQueue(subject, coders, memory=0) as queue:
            found = [await queue.measure([text], latent) for text in texts]
        return [one[0].activations.tolist() for one in found]

    async def both(steering: Steering) -> Any:
        return await asyncio.gather(steer(steering), probe())

    kls, found = run(words.steering(), both)
    assert kls == pytest.approx(run(words.steering(), steer), rel=1e-5)
    assert found == asyncio.run(probe())


@pytest.mark.parametrize(
    ("direction", "length", "message"),
    [
        (Direction(LatentId("other", 0)), 4, "no coder 'other' to steer with (known: plain, "),
        (Direction(LatentId("plain", 12)), 4, "plain/12 is out of range; plain has 12 latents"),
        (
            Direction(LatentId("plain", 0), random=0),
            4,
            "needs texts to learn the hook's covariance",
        ),
        (Direction(LatentId("plain", 0)), 0, "steering needs prompts, each of at least one token"),
        (Direction(LatentId("plain", 0)), 41, "take 41 tokens and the context has 40"),
    ],
)
def test_what_cannot_be_steered_is_told_in_one_line(
    llama: World, direction: Direction, length: int, message: str
) -> None:
    async def use(steering: Steering) -> Any:
        return await steering.strength(direction, [np.zeros(length, np.int32)])

    with pytest.raises(AutointerpError) as caught:
        run(llama.steering(), use)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_keys_and_values_is_refused(llama: World) -> None:
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=2, state_size=4
    )
    model = MambaForCausalLM(config).eval()
    subject = Subject(model, llama.subject.tokenizer, name="mamba", context_length=40)
    hook = subject.hook_point("layers.1")
    world = World(subject, {"plain": (random_coder(1), hook, None)}, llama.prompts)

    async def use(steering: Steering) -> Any:
        return await steering.kl(Direction(LatentId("plain", 0)), 1.0, world.prompts)

    with pytest.raises(AutointerpError, match=r"mamba cannot be steered: .*; use another model"):
        run(world.steering(), use)


def test_closing_cancels_what_waits(llama: World) -> None:
    async def use() -> None:
        async with llama.steering() as steering:
            ask = asyncio.create_task(
                steering.strength(Direction(LatentId("plain", 0)), llama.prompts)
            )
            await asyncio.sleep(0)  # it has asked, and a search takes many answers
        with pytest.raises(asyncio.CancelledError):
            await ask
        with pytest.raises(RuntimeError, match="inside its `async with`"):
            await steering.kl(Direction(LatentId("plain", 0)), 1.0, llama.prompts)

    asyncio.run(asyncio.wait_for(use(), 30))
