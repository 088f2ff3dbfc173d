"""A process that asks a server many things through a journal, for tests that kill it.

Usage: worker.py URL JOURNAL RUN COUNT. Prints the number of each question once its reply is there.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from autointerp.llm.client import Message, Request
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import open_llms
from autointerp.sections import LLMSection


async def main(url: str, journal: str, run: str, count: str) -> None:
    section = LLMSection(model="test", base_url=url, concurrency=16)
    sections = {"judge": section}
    async with open_llms(
        sections, journal=Path(journal), run=run, backoff=Backoff(base=0, attempts=20)
    ) as llms:

        async def one(number: int) -> None:
            await llms.clients["judge"].complete(Request((Message("user", str(number)),)))
            print(number, flush=True)

        await asyncio.gather(*(one(number) for number in range(int(count))))
        spent, maybe = llms.journal.spent(), llms.journal.possibly_billed()
        print(json.dumps({"spent": spent.requests, "maybe": maybe.requests}), flush=True)


asyncio.run(main(*sys.argv[1:]))
