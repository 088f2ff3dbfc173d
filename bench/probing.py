"""Probes a second through the probe queue, against one text at a time and an offline loop.

Usage: python bench/probing.py [AGENTS] [REPEATS]. Prints one JSON object a figure. Every agent
asks for eight texts at a time for its own latent; no text is asked for twice, and nothing is
cached beforehand; the queue writes its cache to disk. The three ways must find the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

# OpenMP's threads spin while they wait, for so long that short operations take seconds where other
# processes want the processors. Read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.latents import LatentId
from autointerp.subject.activation_functions import TopK
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import DEMO, load_subject
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.probe_worker import CPU_BATCH
from autointerp.subject.probing import ProbeQueue

CODER = "layers.2"
LATENTS = 2048
THREADS = 2
SINGLE_THREADS = 1  # one text's operations are so short that a second thread slows them
ASKED = 8  # texts at a time
ROUNDS = 4  # an agent
SHORTEST, LONGEST = 8, 32  # tokens

Found = list[NDArray[np.float32]]  # by text, in the order of the agents
Way = Callable[..., Found]


class Work(NamedTuple):
    """One latent, and the texts its agent asks for."""

    latent: int
    texts: list[str]


def works(subject: Subject, agents: int, seed: int) -> list[Work]:
    """Texts of random words, no two alike, of 8 to 32 tokens."""
    random = np.random.default_rng(seed)
    words = np.array([w for w in subject.vocabulary if w[:1] == " " and w[1:].isalpha()])

    def texts() -> Iterator[str]:
        seen = set()
        while True:
            text = "".join(random.choice(words, random.integers(SHORTEST, LONGEST)))
            if text not in seen and SHORTEST <= len(subject.encode_text(text)) <= LONGEST:
                seen.add(text)
                yield text

    source = texts()
    return [
        Work(int(random.integers(LATENTS)), [next(source) for _ in range(ASKED * ROUNDS)])
        for _ in range(agents)
    ]


def queued(subject: Subject, coder: SparseCoder, hook: HookPoint, work: list[Work]) -> Found:
    """One coroutine an agent, all in flight."""

    async def agent(queue: ProbeQueue, mine: Work) -> Found:
        latent, found = LatentId(CODER, mine.latent), []
        for low in range(0, len(mine.texts), ASKED):
            measured = await queue.measure(mine.texts[low : low + ASKED], latent)
            found += [m.activations for m in measured]
        return found

    async def agents(cache: Path) -> list[Found]:
        async with ProbeQueue(subject, {CODER: (coder, hook)}, cache) as queue:
            return await asyncio.gather(*(agent(queue, mine) for mine in work))

    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(agents(Path(folder) / "probes.sqlite"))
    return [activations for part in found for activations in part]


def single(subject: Subject, coder: SparseCoder, hook: HookPoint, work: list[Work]) -> Found:
    """One text at a time, stopping at the hook and without selecting or storing any top k:
    the latent is active where fewer than k others exceed it."""
    assert isinstance(coder.activation, TopK)
    found = []
    for mine in work:
        for text in mine.texts:
            (batch,) = subject.activations([subject.encode_text(text)], [hook])
            pre = torch.addmm(coder.b_enc, batch.states[hook][0], coder.W_enc)
            own = pre[:, mine.latent, None]
            active = (pre > own).sum(1) < coder.activation.k
            found.append(torch.where(active, own[:, 0].relu(), 0.0).numpy())
    return found


def offline(subject: Subject, coder: SparseCoder, hook: HookPoint, work: list[Work]) -> Found:
    """All texts known beforehand, in batches of like length, encoded for every latent."""
    texts = [text for mine in work for text in mine.texts]
    latents = np.array([mine.latent for mine in work for _ in mine.texts])
    found: Found = [np.empty(0, np.float32)] * len(texts)
    for batch in subject.activations(subject.encode_texts(texts), [hook]):
        lengths = torch.tensor(batch.lengths)
        state = batch.states[hook][torch.arange(max(batch.lengths)) < lengths[:, None]]
        rows, active, values = (part.numpy() for part in coder.encode_sparse(state))
        owners = latents[np.repeat(batch.rows, batch.lengths)]
        asked = active == owners[rows]
        own = np.zeros(len(state), np.float32)
        own[rows[asked]] = values[asked]
        parts = np.split(own, np.cumsum(batch.lengths)[:-1])
        for row, part in zip(batch.rows, parts, strict=True):
            found[row] = part
    return found


def timed(way: Way, *arguments: Any) -> tuple[float, Found]:
    """Seconds, and what was found, in a thread that then ends: OpenMP's threads wait less
    eagerly, and are slower, when more than one living thread has used them."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(way, *arguments).result()
    return time.perf_counter() - begin, found


def compare(agents: int, repeats: int) -> Iterator[dict[str, float]]:
    """Texts a second each way, in turn, on fresh texts each time."""
    torch.set_num_threads(SINGLE_THREADS)
    subject = load_subject("demo", batch_tokens=CPU_BATCH)  # a size of batch that is best for all
    coder, hook = load_coder(DEMO / "coders" / CODER), subject.hook_point(CODER)
    for repeat in range(-1, repeats):
        work = works(subject, agents, seed=repeat + 1)
        rates, results = {}, []
        for way in (single, queued, offline):
            torch.set_num_threads(SINGLE_THREADS if way is single else THREADS)
            seconds, found = timed(way, subject, coder, hook, work)
            rates[way.__name__] = len(found) / seconds
            results.append(found)
        agree(*results)
        if repeat >= 0:  # the first warms up
            yield rates


def agree(expected: Found, *others: Found) -> None:
    """Raise unless all but a few edges of a top-k are the same."""
    for other in others:
        pairs = zip(expected, other, strict=True)
        wrong = [not np.allclose(a, b, rtol=3e-4, atol=1e-5) for a, b in pairs]
        assert np.mean(wrong) < 0.002, f"{sum(wrong)} of {len(wrong)} texts differ"


def main(agents: int = 64, repeats: int = 3) -> None:
    rates = list(compare(agents, repeats))
    about = {"agents": agents, "texts": agents * ASKED * ROUNDS, "threads": THREADS}
    for other in ("single", "offline"):
        ratio = median(r["queued"] / r[other] for r in rates)
        figure = {"bench": "probing", "figure": f"probes_over_{other}", "value": round(ratio, 2)}
        per_second = {f"{k}_per_second": round(median(r[k] for r in rates)) for k in rates[0]}
        print(json.dumps(figure | {"unit": "ratio"} | per_second | about))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
