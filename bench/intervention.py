"""Tokens a second of steered generation: many latents together, one at a time, and a bare loop.

Usage: python bench/intervention.py [LATENTS] [REPEATS]. Prints one JSON object a figure. Then
strengths are searched for some live latents of every coder of the demo, on 64 prompts. Every
latent continues the same 16 prompts of 16 tokens by 8 sampled tokens, at one strength. The bare
loop knows its latents beforehand, reads the prompts once a batch, expands their cache, adds one
vector a row in a hook and samples; it has no queue, no masks and no seeds of its own. It runs at
several batch sizes, and the best counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from statistics import median

# OpenMP's threads spin while they wait, for so long that short operations take seconds where other
# processes want the processors. Read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from autointerp.examples import stdlib
from autointerp.latents import LatentId
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import DEMO, load_subject
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.steering import Direction, Steering, Strength

CODER = "layers.2"
THREADS = 2
PROMPTS, LENGTH, TOKENS = 16, 16, 8
STRENGTH = 60.0  # units of activation: about one nat of KL on the demo
PLACES = {  # every coder of the demo, where it reads and, where that is elsewhere, writes
    "layers.0": ("layers.0", None),
    "layers.1": ("layers.1", None),
    "layers.2": ("layers.2", None),
    "layers.2.mlp": ("layers.2.mlp.input", "layers.2.mlp"),
    "layers.3-jumprelu": ("layers.3", None),
}
SEARCHED, SEARCH_PROMPTS = 8, 64  # latents of each coder
SIZES = (64, 128, 256, 512)  # rows of the bare loop's batches


def prompts(subject: Subject, count: int, longest: int) -> list[NDArray[np.int32]]:
    """The beginnings of texts, of LENGTH tokens up to the longest."""
    rows = (np.array(subject.encode_text(text), np.int32) for text in stdlib.texts())
    fitting = islice((row for row in rows if len(row) >= longest), count)
    lengths = np.linspace(LENGTH, longest, count).astype(int).tolist()
    return [row[:length] for row, length in zip(fitting, lengths, strict=True)]


class World:
    """The subject, its coder, and the prompts."""

    def __init__(self) -> None:
        self.subject = load_subject("demo")
        self.coder: SparseCoder = load_coder(DEMO / "coders" / CODER)
        self.hook: HookPoint = self.subject.hook_point(CODER)
        self.prompts = prompts(self.subject, PROMPTS, LENGTH)

    def steering(self) -> Steering:
        return Steering(self.subject, {CODER: (self.coder, self.hook, None)})


async def together(steering: Steering, world: World, latents: list[int]) -> None:
    """All latents in flight."""
    await asyncio.gather(*(continued(steering, world, latent) for latent in latents))


async def single(steering: Steering, world: World, latents: list[int]) -> None:
    """One latent after another."""
    for latent in latents:
        await continued(steering, world, latent)


async def continued(steering: Steering, world: World, latent: int) -> None:
    direction = Direction(LatentId(CODER, latent))
    texts = await steering.continuations(direction, STRENGTH, world.prompts, TOKENS)
    assert len(texts) == PROMPTS


@torch.inference_mode()
def bare(world: World, latents: list[int], size: int) -> None:
    """Rows of ``size // PROMPTS`` latents at a time."""
    count = size // PROMPTS
    for low in range(0, len(latents), count):
        rows = STRENGTH * world.coder.W_dec[latents[low : low + count]]
        vectors = rows.repeat(PROMPTS, 1)  # [prompts · latents, d]
        continue_bare(world, vectors, len(rows))


def continue_bare(world: World, vectors: torch.Tensor, copies: int) -> torch.Tensor:
    """Token ids [rows, TOKENS] after every prompt, ``copies`` of each side by side."""
    subject, model = world.subject, world.subject.model
    ids = torch.from_numpy(np.stack(world.prompts)).long()
    ids = torch.cat([torch.full((len(ids), 1), subject.bos_id), ids], dim=1)
    cache = DynamicCache()
    model.get_decoder()(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(copies)
    last = ids[:, -1:].repeat_interleave(copies, 0)

    def push(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        return output + vectors[:, None]

    handle = subject.module(world.hook).register_forward_hook(push)
    drawn = []
    for _ in range(TOKENS):
        logits = model(input_ids=last, past_key_values=cache, use_cache=True).logits[:, -1]
        shares = logits.softmax(-1).cumsum(-1)  # ten times as fast as torch.multinomial
        last = torch.searchsorted(shares, torch.rand(len(shares), 1) * shares[:, -1:])
        drawn.append(last)
    handle.remove()
    return torch.cat(drawn, dim=1)


def bare_rate(world: World, latents: list[int], size: int) -> float:
    """Tokens a second, in a thread that then ends: OpenMP's threads wait less eagerly, and are
    slower, when more than one living thread has used them."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(bare, world, latents, size).result()
    return len(latents) * PROMPTS * TOKENS / (time.perf_counter() - begin)


def compare(count: int, repeats: int) -> Iterator[dict[str, float]]:
    """Tokens a second each way, in turn; the first round warms up and is left out."""
    torch.set_num_threads(THREADS)
    world = World()
    random = np.random.default_rng(0)

    async def steered(way: Callable[..., object], latents: list[int]) -> float:
        async with world.steering() as steering:
            await continued(steering, world, 0)  # reads the prompts and makes the noise
            begin = time.perf_counter()
            await way(steering, world, latents)
            return len(latents) * PROMPTS * TOKENS / (time.perf_counter() - begin)

    for repeat in range(-1, repeats):
        latents = random.choice(world.coder.d_sae, count, replace=False).tolist()
        rates = {way.__name__: asyncio.run(steered(way, latents)) for way in (together, single)}
        for size in SIZES:
            rates[f"bare_{size}"] = bare_rate(world, latents, size)
        if repeat >= 0:
            yield rates


def searched() -> dict[str, object]:
    """How many strengths are within 5 % of one nat, of how many latents, and how fast."""
    subject = load_subject("demo")
    attached = {
        name: (
            load_coder(DEMO / "coders" / name),
            subject.hook_point(hook),
            subject.hook_point(to) if to else None,
        )
        for name, (hook, to) in PLACES.items()
    }
    own = prompts(subject, SEARCH_PROMPTS, 64)
    hooks = sorted({hook for _, hook, _ in attached.values()})
    batches = list(subject.activations(own, hooks))

    def fired(coder: SparseCoder, hook: HookPoint) -> list[int]:
        states = (batch.states[hook][:, :LENGTH].flatten(0, 1) for batch in batches)
        found = torch.cat([coder.encode_sparse(x).latents for x in states]).unique()
        latents: list[int] = found[::17][:SEARCHED].tolist()
        return latents

    latents = [
        LatentId(name, i) for name, (coder, hook, _) in attached.items() for i in fired(coder, hook)
    ]

    async def search() -> list[Strength]:
        async with Steering(subject, attached) as steering:
            asks = (steering.strength(Direction(latent), own) for latent in latents)
            return await asyncio.gather(*asks)

    begin = time.perf_counter()
    found = asyncio.run(search())
    seconds = time.perf_counter() - begin
    close = sum(one.reachable and abs(one.kl - 1) <= 0.05 for one in found)
    return {
        "value": round(close / len(found), 3),
        "unit": "share",
        "latents": len(found),
        "unreachable": sum(not one.reachable for one in found),
        "prompts": SEARCH_PROMPTS,
        "latents_per_second": round(len(found) / seconds, 1),
    }


def main(latents: int = 32, repeats: int = 3) -> None:
    rates = list(compare(latents, repeats))
    middle = {name: median(r[name] for r in rates) for name in rates[0]}
    best = max((name for name in middle if name.startswith("bare")), key=lambda n: middle[n])
    about = {"latents": latents, "prompts": PROMPTS, "prompt_tokens": LENGTH, "threads": THREADS}
    about |= {f"{name}_per_second": round(value) for name, value in middle.items()}
    for other in ("single", best):
        ratio = median(r["together"] / r[other] for r in rates)
        figure = f"tokens_over_{other.partition('_')[0]}"
        print(
            json.dumps(
                {"bench": "intervention", "figure": figure, "value": round(ratio, 2)}
                | {"unit": "ratio"}
                | about
            )
        )
    figure = {"bench": "intervention", "figure": "strengths_within_5_percent"}
    print(json.dumps(figure | searched()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
