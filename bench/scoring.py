"""Judged items a second of detection and fuzzing, over eai-delphi's; and what their prompts cost.

Usage: python bench/scoring.py [LATENTS] [TOKENS]. Prints one JSON object a figure. The model behind
the judge answers at once, in this process; all else is real: sets are built from an example store
of the demo, prompts rendered, replies parsed, scores stored. Figures of ``layers`` go through the
whole client besides: hashing, budgets, the journal. eai-delphi runs where AUTOINTERP_DELPHI_PYTHON
names a python that has it (``tools/install_delphi.sh``): it scores the same latents on the same
corpus as its own program would, from its cache to its files, its client answering at once too.
Its cache holds no other latents, so that reading them costs it nothing.

How many windows eai-delphi builds for a latent grows with the corpus; what a store keeps does not.
So the corpus is the one that its 23 built latents a second were seen on: a million tokens in rows
of 256, 2,048 latents of which 16 are active on every token. The coder is half of the demo's.

Characters are those of all turns. The prefix cache is endless and works in blocks.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from autointerp.examples.harvest import collect
from autointerp.examples.options import CorpusOptions, ExampleOptions
from autointerp.examples.sampling import spare_collector
from autointerp.examples.store import ExampleStore
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.latents import Explanation, LatentId
from autointerp.llm.accounts import Ledger
from autointerp.llm.asking import Shared
from autointerp.llm.client import LLMClient, Message, Reply, Request, Usage
from autointerp.llm.journal import Journal
from autointerp.llm.layers import LayeredClient
from autointerp.llm.limits import Backoff, Budget, Slots, Tickets
from autointerp.llm.templates import Templates
from autointerp.llm.transport import Answer
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.tasks import NamedScorer, ScoreTask
from autointerp.registry import scorers
from autointerp.sections import BudgetSection, LLMSection
from autointerp.subject.activation_functions import TopK
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import DEMO, load_subject

CODER, ROW = "layers.1", 256
HALF, ACTIVE = 2, 16  # every second latent, and how many on a token
KINDS = ("detection", "fuzzing")
CONCURRENCY, REPEATS, ITEMS = 16, 3, (5, 10)
BLOCK = 64  # characters
ITEMS_BAR, UNCACHED_BAR, TOTAL_BAR = 10, 1.1, 0.5
EXPLANATION = "Names of months and of days of the week, where they are part of a date. ({})"


@dataclass
class InstantClient:
    """Answers at once with as many labels as are wanted; keeps the prompts."""

    model = "judge"
    prompts: list[tuple[Message, ...]] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        assert request.schema is not None
        self.prompts.append(request.messages)
        text = labels(request.schema["properties"]["labels"]["minItems"])
        return Reply(text, json.loads(text), None, Usage(), False, "")


class InstantTransport:
    """The same, as what the layers of the real client send through."""

    async def send(self, body: bytes, path: str = "") -> Answer:
        found = re.search(rb'"minItems": (\d+)', body)
        assert found is not None
        return Answer(labels(int(found[1])), Usage(len(body) // 4, 0, 8), finish="stop")

    async def close(self) -> None: ...


@cache
def labels(count: int) -> str:
    return json.dumps({"labels": [i % 2 for i in range(count)]})


@dataclass(frozen=True)
class Judging:
    """How the judge is asked."""

    protocol: str
    items: int
    few_shot: bool = True


@dataclass(frozen=True)
class Measured:
    """One pass over all latents."""

    items: int
    seconds: float
    prompts: list[list[str]]  # turns


def score(
    store: ExampleStore, latents: Sequence[LatentId], judging: Judging, layers: bool = False
) -> Measured:
    """Score these latents, each with an explanation of its own, into a fresh journal and file."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        items, prompts = asyncio.run(_score(store, latents, judging, Path(folder), layers))
        seconds = time.perf_counter() - begin
    return Measured(items, seconds, [[turn.content for turn in prompt] for prompt in prompts])


async def _score(
    store: ExampleStore, latents: Sequence[LatentId], judging: Judging, folder: Path, layers: bool
) -> tuple[int, list[tuple[Message, ...]]]:
    explanations = [
        Explanation(latent, EXPLANATION.format(latent.index), "bench") for latent in latents
    ]
    items, client = 0, InstantClient()
    with Results.open(folder / "results.sqlite") as results:

        def done(_: Explanation, scored: list[Scored]) -> None:
            nonlocal items
            assert all(s.score.status == "scored" for s in scored)
            items += sum(len(s.score.outcomes) for s in scored)
            results.put_scores(scored)

        async with Journal(folder / "journal.sqlite", "bench") as journal:
            named = _scorers(layered(journal) if layers else client, judging)
            task = ScoreTask(store, explanations, named, {}, set(), _raise)
            await run_tasks(task.todo, task, done, concurrency=CONCURRENCY)
    return items, client.prompts


def layered(journal: Journal) -> LayeredClient:
    section = LLMSection(model="judge", concurrency=64)
    shared = Shared(journal, Budget(BudgetSection()), Ledger(), Backoff(), Templates())
    slots = Slots(section.concurrency)
    return LayeredClient(section, InstantTransport(), shared, Tickets(None), slots)


def _scorers(client: LLMClient, judging: Judging) -> list[NamedScorer]:
    options = LLMJudgeOptions(
        texts_per_prompt=judging.items, few_shot=judging.few_shot, logprobs=False
    )
    judge = LLMJudge(options, client=client, templates=Templates())
    named = []
    for kind in KINDS:
        registered = scorers.get(kind)
        chosen = registered.options(protocol=judging.protocol)
        named.append(NamedScorer(kind, registered.implementation(chosen, judge=judge), "llm"))
    return named


def _raise(where: str, latent: LatentId, error: BaseException) -> None:
    raise error


def delphi(store: ExampleStore, latents: Sequence[LatentId]) -> dict[int, Any]:
    """What eai-delphi does in its own process, by items a prompt; empty where it is not there."""
    python = os.environ.get("AUTOINTERP_DELPHI_PYTHON")
    if not python:
        return {}
    script = Path(__file__).with_name("scoring_delphi.py")
    with tempfile.TemporaryDirectory() as folder:
        write_cache(store, latents, Path(folder))
        command = [python, script, folder, DEMO, REPEATS, *ITEMS]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return {found["items"]: found for found in map(json.loads, done.stdout.splitlines())}


def write_cache(store: ExampleStore, latents: Sequence[LatentId], folder: Path) -> None:
    """The corpus in rows as eai-delphi caches it, with the activations of these latents."""
    tokens = np.concatenate([store.tokens(i) for i in range(len(store.documents))])
    tokens = tokens[: len(tokens) // ROW * ROW].reshape(-1, ROW)
    locations, values = activations(tokens, [latent.index for latent in latents])
    target = folder / "latents" / CODER
    target.mkdir(parents=True)
    arrays = {"locations": locations, "activations": values, "tokens": tokens.astype(np.int64)}
    save_file(arrays, target / f"0_{len(latents) - 1}.safetensors")
    (target / "config.json").write_text(json.dumps({"model_name": str(DEMO)}))
    explanations = {n: EXPLANATION.format(latent.index) for n, latent in enumerate(latents)}
    (folder / "explanations.json").write_text(json.dumps(explanations))


def activations(
    tokens: NDArray[np.int32], indices: Sequence[int]
) -> tuple[NDArray[np.uint32], NDArray[np.float16]]:
    """Locations [n, 3] (row, position, place in ``indices``) and values of latents."""
    subject = load_subject("demo", context_length=ROW + 1)
    coder, hook = half_coder(), subject.hook_point(CODER)
    locations, values = [], []
    for batch in subject.activations(list(tokens), [hook]):
        states = batch.states[hook]
        width, shift = states.shape[1], states.shape[1] - ROW  # a BOS of its own
        found = coder.encode_sparse(states.flatten(0, 1))
        latent = np.asarray(found.latents)
        row, position = np.divmod(np.asarray(found.rows), width)
        kept = np.flatnonzero(np.isin(latent, indices) & (position >= shift))
        place = np.searchsorted(np.sort(indices), latent[kept])
        at = np.array(batch.rows)[row[kept]]
        locations.append(np.stack([at, position[kept] - shift, place], 1))
        values.append(np.asarray(found.values)[kept])
    order = np.lexsort(np.concatenate(locations).T[[1, 0]])
    return (
        np.concatenate(locations)[order].astype(np.uint32),
        np.concatenate(values)[order].astype(np.float16),
    )


def half_coder() -> SparseCoder:
    whole = load_coder(DEMO / "coders" / CODER)
    return replace(
        whole,
        W_enc=whole.W_enc[:, ::HALF].contiguous(),
        b_enc=whole.b_enc[::HALF].contiguous(),
        W_dec=whole.W_dec[::HALF].contiguous(),
        activation=TopK(ACTIVE),
    )


def uncached(prompts: Iterable[Sequence[str]]) -> int:
    """Characters outside the prefix cache: whole blocks seen at the same beginning are in it."""
    seen: set[int] = set()
    missed = 0
    for turns in prompts:
        text, chain, known = "\0".join(turns), 0, True
        hits = 0
        for end in range(BLOCK, len(text) + 1, BLOCK):
            chain = hash((chain, text[end - BLOCK : end]))
            known = known and chain in seen
            hits += known
            seen.add(chain)
        missed += len(text) - hits * BLOCK
    return missed


def needed(prompts: Iterable[Sequence[str]]) -> int:
    """Characters of the texts and the explanation that the last turn of each prompt asks about."""
    total = 0
    for turns in prompts:
        explanation, texts = turns[-1].split("</explanation>")
        total += len(explanation.partition("<explanation>")[2].strip())
        total += sum(len(text) for line in _LINES.findall(texts) for text in strings(line))
    return total


_LINES = re.compile(r"^\d+\. (.*)$", re.MULTILINE)


def strings(line: str) -> list[str]:
    """The strings that stand in a line of a prompt."""
    value = json.loads(line)
    return [value] if isinstance(value, str) else value


def characters(prompts: Iterable[Sequence[str]]) -> int:
    return sum(len(turn) for turns in prompts for turn in turns)


def some_latents(store: ExampleStore, count: int) -> list[LatentId]:
    """A uniform sample of the latents that both protocols can score."""
    windows = np.asarray(store.statistics(CODER).window_count)
    fine = np.flatnonzero((windows.sum(1) >= 220) & (windows[:, 2] >= 80))
    chosen = np.random.default_rng(0).permutation(fine)[:count]
    return [LatentId(CODER, int(index)) for index in np.sort(chosen)]


def demo_store(folder: Path, tokens: int) -> ExampleStore:
    subject = load_subject("demo", context_length=ROW)
    coders = {CODER: (half_coder(), subject.hook_point(CODER))}
    return collect(subject, coders, CorpusOptions(tokens=tokens), ExampleOptions(), folder)


def show(figure: str, value: float, unit: str, bar: float | None, **more: Any) -> None:
    found = {"bench": "scoring", "figure": figure, "value": round(value, 3), "unit": unit}
    print(json.dumps({**found, "bar": bar, **more}), flush=True)


def main(count: int = 128, tokens: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = demo_store(Path(folder), tokens)
        latents = some_latents(store, count)
        spare_collector()  # as the program does before its work
        theirs = delphi(store, latents)
        speed(store, latents, theirs)
        prompts(store, latents, theirs)


def speed(store: ExampleStore, latents: list[LatentId], theirs: Mapping[int, Any]) -> None:
    """Items a second, five a prompt."""
    for protocol, layers in (("delphi", False), ("standard", False), ("delphi", True)):
        judging = Judging(protocol, 5)
        score(store, latents[:4], judging, layers)
        runs = [score(store, latents, judging, layers) for _ in range(REPEATS)]
        rate = median(run.items / run.seconds for run in runs)
        name = protocol + ("_layers" if layers else "")
        show(f"items_per_second_{name}", rate, "items/s", None, items=runs[0].items)
        if theirs:
            base = median(theirs[5]["rates"])
            more = {"eai_delphi_items_per_second": round(base, 1)}
            show(f"items_over_eai_delphi_{name}", rate / base, "ratio", ITEMS_BAR, **more)


def prompts(store: ExampleStore, latents: list[LatentId], theirs: Mapping[int, Any]) -> None:
    """Characters a latent, and eai-delphi's for the same latents and items a prompt."""
    for judging in (
        Judging("standard", 5),
        Judging("delphi", 5),
        Judging("delphi", 10),
        Judging("delphi", 10, few_shot=False),
    ):
        asked = score(store, latents, judging).prompts
        name = f"{judging.protocol}_{judging.items}{'' if judging.few_shot else '_plain'}"
        show(f"uncached_{name}", uncached(asked) / needed(asked), "ratio", UNCACHED_BAR)
        total = characters(asked)
        show(f"characters_{name}", total / len(latents), "characters/latent", None)
        if theirs:
            base = characters(theirs[judging.items]["prompts"])
            more = {"eai_delphi_characters": round(base / len(latents))}
            show(f"characters_over_eai_delphi_{name}", total / base, "ratio", TOTAL_BAR, **more)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
