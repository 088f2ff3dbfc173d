"""Meters: what a block of code asked for, its tasks included, whoever else asks meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from llm_asking import SCHEMA, question, run
from llm_server import LLMServer

from autointerp.latents import Cost
from autointerp.llm.accounts import metered
from autointerp.llm.client import LLMFailure


def test_a_meter_counts_its_own_tasks_and_nobody_elses(tmp_path: Path) -> None:
    async def ask(client: Any, names: list[str]) -> tuple[Cost, Cost]:
        with metered() as outer:
            await client.complete(question(names[0]))
            with metered() as inner:
                await asyncio.gather(*(client.complete(question(name)) for name in names[1:]))
        return outer.all, inner.all

    async def work(llms: Any) -> Any:
        client = llms.clients["judge"]
        both = await asyncio.gather(ask(client, ["a", "b", "c"]), ask(client, ["d", "e"]))
        return [*both, (llms.ledger.total.all,)]

    with LLMServer() as server:
        first, second, (total,) = run(server, tmp_path, work)
    assert [cost.requests for cost in (*first, *second, total)] == [3, 2, 2, 1, 5]
    assert first[0].prompt_tokens + second[0].prompt_tokens == total.prompt_tokens > 0


def test_journaled_and_unusable_replies_count(tmp_path: Path) -> None:
    async def work(llms: Any) -> Any:
        with metered() as account:
            try:
                await llms.clients["judge"].complete(question("a", schema=SCHEMA))
            except LLMFailure:
                return account
        return None

    with LLMServer(lambda body: "no") as server:
        first, again = run(server, tmp_path, work), run(server, tmp_path, work)
    assert first.spent == again.journaled
    assert first.all == again.all
    assert again.spent == Cost()
    assert first.all.requests == 2
