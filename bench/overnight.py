"""A run over many latents, as one is left to itself overnight: does it stay as fast and as small?

Usage: python bench/overnight.py [LATENTS]. A random coder of that width (20,000) over the demo's
model is collected, explained with one question a latent, and scored by detection and fuzzing with
ten windows a prompt; bench/loopback.py answers from a process of its own. Prints one JSON object a
figure:

- ``explain``, ``score``: latents and requests a second, and by quarter of the stage the
  milliseconds a latent (``cpu``: of the process's CPU time) and the megabytes of memory
  (``anonymous``: that of the process alone; ``resident`` counts pages of mapped files too, which
  the kernel takes back when it needs them).
- ``growth of time``, of CPU time, of memory: the last quarter over the second. On a machine with
  other work, time tells of that work, and CPU time of the run.
- ``CPU a judged request``: the driver's, all of its threads, and that of as many bare calls of the
  openai client (at most 20,000) with the same questions to the same server in the same process.
- ``bytes a latent``: what the run leaves on the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, Self

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from loopback import running
from openai import AsyncOpenAI, DefaultAioHttpClient

from autointerp.config import RunConfig, build_config
from autointerp.latents import LatentId
from autointerp.llm.client import Request
from autointerp.llm.structured import response_format
from autointerp.pipeline import breaker, building, directory, rendered
from autointerp.pipeline import run as work
from autointerp.pipeline.random_coders import place_coder
from autointerp.pipeline.results import Results
from autointerp.pipeline.session import session

LATENTS = 20_000
TOKENS = 200_000
ACTIVE = 320  # tokens on which a latent is active, on average
LEAST_ACTIVE_AT_ONCE = 4
CONCURRENCY = 64
MOST_BARE = 20_000
ASKED_ABOUT = 20  # latents whose questions the bare client sends
QUARTERS = 4
SAMPLES = 200  # looks at the memory, a stage
MOST_GROWTH, MOST_CPU = 1.1, 0.3  # ratio; milliseconds beyond the client's own
CODER, HOOK = "wide", "layers.1"

Figure = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What was seen when so many latents were done."""

    done: int
    seconds: float
    cpu: float  # seconds
    memory: Mapping[str, int]  # bytes

    @classmethod
    def now(cls, done: int) -> Self:
        return cls(done, time.perf_counter(), time.process_time(), memory())


@dataclass
class Stage:
    """One stage as it goes by."""

    looks: list[Look] = field(default_factory=list)

    def see(self, done: int, total: int) -> None:
        if done % max(1, total // SAMPLES) == 0 or done == total:
            self.looks.append(Look.now(done))

    def quarters(self) -> Iterator[list[Look]]:
        last = self.looks[-1].done
        edges = [last * quarter // QUARTERS for quarter in range(QUARTERS + 1)]
        for low, high in pairwise(edges):
            yield [look for look in self.looks if low <= look.done <= high]

    def figures(self) -> dict[str, list[float]]:
        """Milliseconds a latent and megabytes, a number a quarter."""
        parts = list(self.quarters())
        ends = [(part[0], part[-1]) for part in parts]
        wall = [1000 * (b.seconds - a.seconds) / (b.done - a.done) for a, b in ends]
        cpu = [1000 * (b.cpu - a.cpu) / (b.done - a.done) for a, b in ends]
        found = {"milliseconds": [round(t, 3) for t in wall], "cpu": [round(t, 3) for t in cpu]}
        for kind in ("anonymous", "resident"):
            means = [sum(look.memory[kind] for look in part) / len(part) for part in parts]
            found[kind] = [round(mean / 2**20, 1) for mean in means]
        return found


def memory() -> dict[str, int]:
    """Bytes of this process."""
    names = {"RssAnon": "anonymous", "VmRSS": "resident"}
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: line.split()[1] for line in lines for name in [line.partition(":")[0]]
             if name in names}  # fmt: skip
    return {names[name]: int(kilobytes) * 1024 for name, kilobytes in found.items()}


def configuration(folder: Path, url: str, latents: int) -> RunConfig:
    """The run; its coder is written beside it."""
    demo = building.build_coders(build_config({"subject": {"coders": {HOOK: "demo"}}}))[HOOK]
    rows = torch.randn(latents, demo.d_in, generator=torch.Generator().manual_seed(0))
    encoder = torch.nn.functional.normalize(rows, dim=1)
    tensors = {
        "encoder.weight": encoder,
        "encoder.bias": torch.zeros(latents),
        "W_dec": encoder.clone(),
        "b_dec": demo.b_dec.detach().float().contiguous(),
    }
    k = max(LEAST_ACTIVE_AT_ONCE, round(ACTIVE * latents / TOKENS))
    coder = place_coder(folder, CODER, tensors, k, transcode=False)
    llm = {"model": "bench", "base_url": url, "concurrency": CONCURRENCY}
    judge = {"kind": "llm", "texts_per_prompt": 10}
    return build_config(
        {
            "run": {"name": "run", "directory": str(folder)},
            "subject": {"coders": {CODER: {**coder, "hook": HOOK}}},
            "corpus": {"tokens": TOKENS},
            "latents": {CODER: "all"},
            "explainer": {"kind": "single_pass"},
            "scorers": [{"kind": kind, "judge": judge} for kind in ("detection", "fuzzing")],
            "llms": {"explainer": llm, "judge": llm},
            "journal": str(folder / "journal.sqlite"),
            "engine": {"concurrency": CONCURRENCY},
        }
    )


def answered(url: str) -> int:
    """Requests that the server has answered."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats") as reply:
        return int(json.load(reply)["answered"])


def stages(config: RunConfig, url: str) -> Iterator[Figure]:
    """Run, and tell how it went."""
    seen: dict[str, Stage] = {}
    spent: dict[str, tuple[float, int]] = {}  # CPU seconds, requests

    def observe(stage: str, done: int, total: int) -> None:
        seen.setdefault(stage, Stage()).see(done, total)

    with session(config, observe, force=True) as s:
        began = time.perf_counter()
        store = work.collect(s)
        collected = time.perf_counter()
        latents = work.chosen(s, store)
        work.get_ready(s, store, latents)
        ready = time.perf_counter()
        yield {"figure": "collect", "value": round(collected - began, 1), "unit": "s"}
        yield {"figure": "prepare", "value": round(ready - collected, 1), "unit": "s"}
        for name, stage in (("explain", work.explain), ("score", work.score)):
            seen[name] = Stage([Look.now(0)])
            before = time.process_time(), answered(url)
            stage(s, store, latents)
            spent[name] = time.process_time() - before[0], answered(url) - before[1]
        s.enter("done")
    for name in spent:
        yield from _stage(name, seen[name], *spent[name])
    yield from _cpu(config, url, *spent["score"])


def _stage(name: str, stage: Stage, cpu: float, requests: int) -> Iterator[Figure]:
    first, last = stage.looks[0], stage.looks[-1]
    seconds = last.seconds - first.seconds
    quarters = stage.figures()
    yield {
        "figure": name, "value": round(last.done / seconds, 1), "unit": "latents/s",
        "latents": last.done, "requests": requests, "seconds": round(seconds, 1),
        "requests_per_second": round(requests / seconds), "cpu_seconds": round(cpu, 1), **quarters,
    }  # fmt: skip
    kinds = (("time", "milliseconds"), ("CPU time", "cpu"), ("memory", "anonymous"))
    for what, kind in kinds:
        growth = quarters[kind][3] / quarters[kind][1]
        figure = f"growth of {what}, {name}"
        yield {"figure": figure, "value": round(growth, 3), "unit": "ratio", "bar": MOST_GROWTH}


def _cpu(config: RunConfig, url: str, cpu: float, requests: int) -> Iterator[Figure]:
    calls = min(requests, MOST_BARE)
    asked = questions(config)
    began = time.process_time()
    asyncio.run(bare(url, asked, calls))
    bare_ms = 1000 * (time.process_time() - began) / calls
    driver_ms = 1000 * cpu / requests
    yield {
        "figure": "CPU a judged request beyond the client's own",
        "value": round(driver_ms - bare_ms, 3), "unit": "ms", "bar": MOST_CPU,
        "driver": round(driver_ms, 3), "client": round(bare_ms, 3), "bare_calls": calls,
    }  # fmt: skip


def questions(config: RunConfig) -> list[Request]:
    """What the judge is asked about a few latents of the run."""
    found: list[Request] = []
    for latent in _scored(config)[:ASKED_ABOUT]:
        for requests in rendered.render_run(config, latent).scorers.values():
            found += requests
    return found


def _scored(config: RunConfig) -> list[LatentId]:
    with Results.read(config.run.path / directory.RESULTS) as results:
        scores = islice(results.scores("detection"), 40 * ASKED_ABOUT)
        scored = [s.score.latent for s in scores if s.score.status == "scored"]
    return [*dict.fromkeys(scored)]


async def bare(url: str, asked: Sequence[Request], calls: int) -> None:
    """So many calls of the openai client, as many at a time as the run makes."""
    waiting = islice(cycle(asked), calls)

    async def worker(client: AsyncOpenAI) -> None:
        for request in waiting:
            create: Any = client.chat.completions.create
            await create(
                model="bench",
                messages=[{"role": m.role, "content": m.content} for m in request.messages],
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                logprobs=True,
                top_logprobs=request.top_logprobs,
                response_format=response_format(request.schema or {}),
            )

    openai = AsyncOpenAI(api_key="x", base_url=url, http_client=DefaultAioHttpClient())
    async with openai:
        await asyncio.gather(*(worker(openai) for _ in range(CONCURRENCY)))


def sizes(folder: Path, latents: int) -> Figure:
    """What the run left on the disk."""
    run = folder / "run"
    parts = {
        "examples": directory.size(run / directory.EXAMPLES),
        "results": (run / directory.RESULTS).stat().st_size,
        "journal": (folder / "journal.sqlite").stat().st_size,
    }
    each = {name: round(size / latents) for name, size in parts.items()}
    return {"figure": "bytes a latent", "value": sum(each.values()), "unit": "bytes", **each}


def main(latents: int = LATENTS) -> None:
    breaker.FIRST_LOOK = sys.maxsize  # it would rightly stop a run over answers of such worth
    os.environ.setdefault("OPENAI_API_KEY", "key-of-the-loopback-server")
    with tempfile.TemporaryDirectory() as name, running() as url:
        folder = Path(name)
        for figure in stages(configuration(folder, url, latents), url):
            print(json.dumps({"bench": "overnight", **figure}), flush=True)
        print(json.dumps({"bench": "overnight", **sizes(folder, latents)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
