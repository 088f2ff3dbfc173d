"""Requests a second through all layers, over the bare openai client with its aiohttp transport.

Usage: python bench/llm_client.py [REQUESTS] [PAIRS]. A server in its own process answers at once;
prompts are 4 kB and all different. The two are timed in turn, and the median of the ratios counts.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from openai import AsyncOpenAI, DefaultAioHttpClient

from autointerp.llm.client import LLMClient, Message, Request
from autointerp.llm.opening import open_llms
from autointerp.sections import LLMSection

SERVER = Path(__file__).parents[1] / "tests" / "llm_server.py"
CONCURRENCY = 64
PROMPT_BYTES = 4096
FILLING = "the quick brown fox " * (PROMPT_BYTES // 20 + 1)
BAR = 0.7


def prompt(number: int) -> str:
    return (f"{number} " + FILLING)[:PROMPT_BYTES]


async def timed(numbers: range, one: Callable[[int], Awaitable[None]]) -> float:
    """Requests a second of ``one`` over ``numbers``, CONCURRENCY at a time."""
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            await one(number)

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return len(numbers) / (time.perf_counter() - begin)


async def bare(client: AsyncOpenAI, number: int) -> None:
    await client.chat.completions.create(
        model="test",
        messages=[{"role": "user", "content": prompt(number)}],
        temperature=0,
        max_tokens=64,
    )


async def layered(client: LLMClient, number: int) -> None:
    await client.complete(Request((Message("user", prompt(number)),), max_tokens=64))


async def compare(url: str, requests: int, pairs: int, journal: Path) -> list[tuple[float, float]]:
    """Requests a second (layers, bare) of each pair; the first pair warms up and is dropped."""
    section = LLMSection(
        model="test", base_url=url, concurrency=CONCURRENCY, requests_per_minute=1_000_000
    )
    openai = AsyncOpenAI(api_key="x", base_url=url, http_client=DefaultAioHttpClient())
    rates = []
    async with openai, open_llms({"judge": section}, journal=journal) as llms:
        client = llms.clients["judge"]
        for pair in range(pairs + 1):
            numbers = range(pair * requests, (pair + 1) * requests)
            ours = await timed(numbers, lambda n: layered(client, n))
            theirs = await timed(numbers, lambda n: bare(openai, n))
            rates.append((ours, theirs))
    return rates[1:]


def main(requests: int = 500, pairs: int = 5) -> None:
    server = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = json.loads(server.stdout.readline())["url"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            rates = asyncio.run(compare(url, requests, pairs, Path(folder) / "journal.sqlite"))
    finally:
        server.terminate()
        server.wait()
    result = {
        "bench": "llm_client",
        "figure": "llm_client_over_bare",
        "value": round(median(ours / theirs for ours, theirs in rates), 3),
        "unit": "ratio",
        "bar": BAR,
        "requests_per_second": round(median(ours for ours, _ in rates)),
        "bare_requests_per_second": round(median(theirs for _, theirs in rates)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
