"""Does a run keep its server as busy as it may, when the server stumbles and when it refuses?

Usage: python bench/saturation.py [SECONDS]. bench/loopback.py answers after 0.2 s, in a process of
its own. Prints one JSON object a figure:

- ``in flight``: 2.5 % of requests meet a 500 and 2.5 % a reset connection; the mean number in
  flight, as the server sees it, over the configured limit, first and last two seconds aside.
- ``throughput``: the server refuses, with 429, all above a capacity (in flight, or a second);
  answers a second over what the capacity allows, the first two seconds, in which the capacity is
  found out, and the last two aside. ``refused`` is the share of requests that were refused.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loopback import running

from autointerp.llm.client import LLMFailure, Message, Request
from autointerp.llm.opening import open_llms
from autointerp.sections import LLMSection

SECONDS = 15.0
LATENCY = 0.2
LIMIT = 64
WORKERS = 4 * LIMIT  # questions at hand, as 64 latents have them
CAPACITY, PER_SECOND = 20, 100.0
EDGE = 2.0  # seconds at either end that do not count
LEAST_IN_FLIGHT, LEAST_THROUGHPUT = 0.95, 0.85

Tick = dict[str, float]


async def asked(url: str, seconds: float, journal: Path) -> int:
    """Ask for so long; how many requests failed."""
    section = LLMSection(model="bench", base_url=url, concurrency=LIMIT)
    end, number, failed = time.monotonic() + seconds, 0, 0

    async def worker() -> None:
        nonlocal number, failed
        while time.monotonic() < end:
            number += 1
            request = Request((Message("user", f"{number} " + "what is this? " * 50),))
            try:
                await client.complete(request)
            except LLMFailure:
                failed += 1

    async with open_llms({"judge": section}, journal=journal) as llms:
        client = llms.clients["judge"]
        tasks = [asyncio.create_task(worker()) for _ in range(WORKERS)]
        await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return failed


def ticks(url: str) -> list[Tick]:
    """What the server saw, by tenth of a second."""
    with urllib.request.urlopen(f"{url.removesuffix('/v1')}/stats") as reply:
        found: list[Tick] = json.load(reply)["ticks"]
    return found


def seen(seconds: float, *options: str) -> tuple[list[Tick], int]:
    """What the server saw between the edges, and how many requests failed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running("--latency", str(LATENCY), *options) as url,
    ):
        failed = asyncio.run(asked(url, seconds, Path(folder) / "journal.sqlite"))
        busy = [tick for tick in ticks(url) if tick["in_flight"] or tick["refused"]]
    first, last = busy[0]["at"], busy[0]["at"] + seconds
    return [tick for tick in busy if first + EDGE <= tick["at"] <= last - EDGE], failed


def figures(seconds: float) -> Iterator[dict[str, Any]]:
    found, failed = seen(seconds, "--errors", "0.025", "--resets", "0.025")
    mean = sum(tick["in_flight"] for tick in found) / len(found)
    yield {
        "figure": "in flight", "value": round(mean / LIMIT, 3), "unit": "ratio",
        "bar": LEAST_IN_FLIGHT, "limit": LIMIT, "failed": failed,
    }  # fmt: skip
    allowed = {"--capacity": (CAPACITY, CAPACITY / LATENCY), "--per-second": (PER_SECOND,) * 2}
    for option, (capacity, rate) in allowed.items():
        found, failed = seen(seconds, option, f"{capacity:g}")
        took = found[-1]["at"] - found[0]["at"]
        answered, refused = (sum(t[name] for t in found[1:]) for name in ("answered", "refused"))
        yield {
            "figure": f"throughput, {option.removeprefix('--')} {capacity:g}",
            "value": round(answered / took / rate, 3), "unit": "ratio", "bar": LEAST_THROUGHPUT,
            "refused": round(refused / (answered + refused), 3), "failed": failed,
        }  # fmt: skip


def main(seconds: float = SECONDS) -> None:
    os.environ.setdefault("OPENAI_API_KEY", "key-of-the-loopback-server")
    for figure in figures(seconds):
        print(json.dumps({"bench": "saturation", **figure}), flush=True)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
