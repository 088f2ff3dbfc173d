"""What tests of the language model layer share: a question, and a client opened for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llm_server import LLMServer

from autointerp.llm.client import Message, Reply, Request
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import LLMs, open_llms
from autointerp.sections import BudgetSection, LLMSection

SCHEMA = {
    "title": "Labels",
    "type": "object",
    "properties": {
        "labels": {"type": "array", "items": {"type": "boolean"}, "minItems": 4, "maxItems": 4},
        "why": {"type": "string"},
    },
    "required": ["labels", "why"],
}
AT_ONCE = Backoff(base=0)
T = TypeVar("T")


def question(text: str, **fields: Any) -> Request:
    return Request((Message("system", "You judge."), Message("user", text)), **fields)


def run(
    server: LLMServer,
    folder: Path,
    work: Callable[[LLMs], Awaitable[T]],
    budget: BudgetSection | None = None,
    backoff: Backoff = AT_ONCE,
    name: str = "run",
    **section: Any,
) -> T:
    """Open one client named ``judge`` on the server, do ``work``, close."""
    fields = {"model": "test", "base_url": server.url, "timeout": 5.0, **section}

    async def opened() -> T:
        sections = {"judge": LLMSection(**fields)}
        journal = folder / "journal.sqlite"
        async with open_llms(sections, budget, journal, name, backoff=backoff) as llms:
            return await work(llms)

    return asyncio.run(opened())


def asking(requests: Sequence[Request]) -> Callable[[LLMs], Awaitable[list[Any]]]:
    """Ask all at once; what went wrong stands in the list."""

    async def work(llms: LLMs) -> list[Any]:
        client = llms.clients["judge"]
        return await asyncio.gather(*map(client.complete, requests), return_exceptions=True)

    return work


def ask_one(server: LLMServer, folder: Path, request: Request, **options: Any) -> Reply:
    (reply,) = run(server, folder, asking([request]), **options)
    if isinstance(reply, BaseException):
        raise reply
    assert isinstance(reply, Reply)
    return reply
