"""What waits for a wave of a batch API: bytes of memory a suspended explanation, and a suspended
question of a judge.

Usage: python bench/waves.py [LATENTS] [TOKENS]. Nothing is sent: the wave is still filling when it
is measured. Prints one JSON object a line.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from evidence import CODERS, some_latents

from autointerp.examples.harvest import collect
from autointerp.examples.options import CorpusOptions, ExampleOptions
from autointerp.examples.sampling import SetBuilder, prepare, spare_collector
from autointerp.examples.store import ExampleStore
from autointerp.explainers.single_pass import SinglePassExplainer
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.latents import Explanation, LatentId
from autointerp.llm.opening import LLMs, open_llms
from autointerp.llm.templates import Templates
from autointerp.pipeline.controls import Control, ControlName
from autointerp.pipeline.tasks import ExplainTask, NamedScorer, ScoreTask
from autointerp.registry import scorers
from autointerp.sections import BatchSection, LLMSection
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import DEMO, load_subject

NOWHERE = "http://127.0.0.1:9/v1"
TEXT = "Names of months and of days of the week, where they are part of a date. ({})"
LIVELY = 20  # active windows in every split
WARM = 10  # latents before those that are counted
CONTROLS: tuple[ControlName, ...] = ("empty", "neighbour", "shuffled", "token_list")
Work = Callable[[LatentId], Awaitable[Any]]


def explaining(store: ExampleStore, latents: list[LatentId], llms: LLMs) -> Work:
    """One question a latent."""
    explainer = SinglePassExplainer(client=llms.clients["llm"], templates=Templates())
    sets = SetBuilder(store, "select", latents)
    return ExplainTask(store, sets, explainer, "single_pass", _raise)


def judging(store: ExampleStore, latents: list[LatentId], llms: LLMs) -> Work:
    """All questions of detection and fuzzing, with four controls, ten windows each."""
    options = LLMJudgeOptions(texts_per_prompt=10)
    judge = LLMJudge(options, client=llms.clients["llm"], templates=Templates())
    named = [
        NamedScorer(kind, scorers.get(kind).implementation(judge=judge), "llm")
        for kind in ("detection", "fuzzing")
    ]
    texts = {latent: Explanation(latent, TEXT.format(latent.index), "bench") for latent in latents}
    controls = {latent: [_control(name, latent) for name in CONTROLS] for latent in latents}
    task = ScoreTask(
        store, list(texts.values()), named, {"input": controls}, set(), _raise, together=True
    )
    list(task.todo)  # tells which windows are read together
    return lambda latent: task(texts[latent])


def _lively(store: ExampleStore, latent: LatentId) -> bool:
    """Whether there are windows enough for both an explanation and scores."""
    return bool(store.statistics(latent.coder).window_count[latent.index].min() >= LIVELY)


def _control(name: ControlName, latent: LatentId) -> Control:
    return Control(name, latent, f"{TEXT.format(latent.index)} {name}")


def _raise(where: str, latent: LatentId, error: BaseException) -> None:
    raise error


async def measured(
    store: ExampleStore, latents: list[LatentId], make: Callable[..., Work]
) -> tuple[int, int]:
    """Bytes, and the questions that wait."""
    batch = BatchSection(idle_seconds=3600, in_flight=10**6, requests=10**6, megabytes=10**6)
    section = LLMSection(model="m", backend="openai-batch", base_url=NOWHERE, batch=batch)
    with tempfile.TemporaryDirectory() as folder:
        async with open_llms({"llm": section}, journal=Path(folder) / "journal.sqlite") as llms:
            few, many = latents[:WARM], latents[WARM:]
            first = [await _suspended(make(store, few, llms)(latent), llms) for latent in few]
            gc.collect()
            before, waiting = tracemalloc.get_traced_memory()[0], llms.rooms[0].waiting
            work = make(store, many, llms)
            rest = [await _suspended(work(latent), llms) for latent in many]
            gc.collect()
            found = tracemalloc.get_traced_memory()[0] - before
            for task in (*first, *rest):
                task.cancel()
            return found, llms.rooms[0].waiting - waiting


async def _suspended(work: Coroutine[Any, Any, Any], llms: LLMs) -> asyncio.Task[Any]:
    task = asyncio.create_task(work)
    waiting = -1
    while llms.rooms[0].waiting != waiting:
        waiting = llms.rooms[0].waiting
        for _ in range(20):
            await asyncio.sleep(0)
    return task


def main(latents: int = 400, tokens: int = 200_000) -> None:
    subject = load_subject("demo", context_length=128)
    coders = {
        name: (load_coder(DEMO / "coders" / name), subject.hook_point(name)) for name in CODERS
    }
    with tempfile.TemporaryDirectory() as directory:
        options, corpus = ExampleOptions(), CorpusOptions(tokens=tokens)
        store = collect(subject, coders, corpus, options, directory)
        chosen = [i for i in some_latents(store, latents) if _lively(store, i)]
        prepare(store, subject, coders, chosen)
        spare_collector()
        tracemalloc.start()
        for figure, make in (("explanation", explaining), ("judge", judging)):
            found, waiting = asyncio.run(measured(store, chosen, make))
            line = {
                "bench": "waves",
                "figure": f"suspended_{figure}_question",
                "value": round(found / max(1, waiting)),
                "unit": "bytes",
                "latents": len(chosen) - WARM,
                "questions": waiting,
                "bytes_a_latent": round(found / (len(chosen) - WARM)),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
