"""Language models that are not asked: what the journal has is replayed, the rest is pretended.

A rehearsal goes through the same clients as a run, so that its prompts are the run's own, byte for
byte. It writes nothing, and counts what would be sent.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from autointerp.latents import Cost
from autointerp.llm.accounts import Ledger, asked_for, plus
from autointerp.llm.asking import Shared
from autointerp.llm.client import LLMClient, Reply, Request, Usage
from autointerp.llm.journal import Answered, Journal, default_path
from autointerp.llm.journal_file import open_file
from autointerp.llm.layers import LayeredClient
from autointerp.llm.limits import Backoff, Budget, Slots, Tickets
from autointerp.llm.opening import LLMs
from autointerp.llm.pretending import echoed, pretended
from autointerp.llm.templates import Templates
from autointerp.llm.token_counts import Counter, PrefixCache
from autointerp.llm.transport import Answer, Route
from autointerp.sections import BudgetSection, LLMSection

FEWEST_KNOWN = 3  # replies in the journal that tell how a model counts and answers
_UNLIMITED = 10_000  # requests in flight


@dataclass
class _Known:
    """Replies of one purpose that were in the journal: what they took, and what was thought."""

    replies: int = 0
    actual: Usage = field(default_factory=Usage)
    thought: Usage = field(default_factory=Usage)

    def add(self, actual: Usage, thought: Usage) -> None:
        self.replies += 1
        self.actual += actual
        self.thought += thought


@dataclass
class Model:
    """What one language model would be asked.

    ``asked`` are all requests with their usage, by the kind of explainer or scorer that they are
    for; ``paid`` those among them that nobody has paid for, or this run itself; ``known`` were in
    the journal, of which the usage is no guess.
    """

    section: LLMSection
    counter: Counter
    cache: PrefixCache
    asked: dict[str, Cost] = field(default_factory=dict)
    paid: dict[str, Cost] = field(default_factory=dict)
    known: int = 0
    purposes: dict[str, _Known] = field(default_factory=dict)

    def guess(self, turns: list[dict[str, str]], text: str, purpose: str) -> Usage:
        """The usage of a request that is answered by ``text``, as the replies in the journal
        have it."""
        thought = self._thought(turns, text)
        known = list(self.purposes.values())
        replies = sum(of.replies for of in known)
        if replies < FEWEST_KNOWN:
            return thought
        actual = sum((of.actual for of in known), Usage())
        before = sum((of.thought for of in known), Usage())
        prompt = thought.prompt_tokens * _ratio(actual.prompt_tokens, before.prompt_tokens)
        cached = thought.cached_tokens * _ratio(actual.cached_tokens, before.cached_tokens)
        said: float = thought.completion_tokens
        like = self.purposes.get(purpose, _Known())
        if like.replies >= FEWEST_KNOWN:
            said = like.actual.completion_tokens / like.replies
        return Usage(round(prompt), round(min(cached, prompt)), round(said))

    def learn(self, turns: list[dict[str, str]], answer: Answer, purpose: str) -> None:
        """Take note of a reply that the journal has."""
        self.known += 1
        thought = self._thought(turns, answer.text)
        self.purposes.setdefault(purpose, _Known()).add(answer.usage, thought)

    def add(self, usage: Usage, *, paid: bool) -> None:
        """Count one request."""
        kind = asked_for()
        for costs in (self.asked, self.paid) if paid else (self.asked,):
            costs[kind] = plus(costs.get(kind, Cost()), usage)

    def _thought(self, turns: list[dict[str, str]], text: str) -> Usage:
        prompt = self.counter.prompt(turns)
        return Usage(prompt, self.cache.cached(turns, prompt), self.counter.text(text))


def _ratio(actual: float, thought: float) -> float:
    return actual / thought if thought else 1.0


_ASKED: ContextVar[tuple[Model, Request]] = ContextVar("asked")


@dataclass(frozen=True)
class _Noting:
    """Lets the layers below know what is asked, and of whom."""

    client: LLMClient
    asked_of: Model

    @property
    def model(self) -> str:
        return self.client.model

    async def complete(self, request: Request) -> Reply:
        token = _ASKED.set((self.asked_of, request))
        try:
            return await self.client.complete(request)
        finally:
            _ASKED.reset(token)


class _Pretender:
    """A transport that sends nothing."""

    async def send(self, body: bytes, path: Route = "/chat/completions") -> Answer:
        model, request = _ASKED.get()
        sent = json.loads(body)
        if request.echo:
            turns, text = [{"role": "user", "content": sent["prompt"]}], ""
        else:
            turns, text = sent["messages"], pretended(request)
        logprobs = echoed(sent["prompt"]) if request.echo else None
        return Answer(text, model.guess(turns, text, request.purpose), logprobs, "stop")

    async def close(self) -> None: ...


class _Overlay(Journal):
    """A journal that is read only; what is pretended stands beside it, in memory."""

    async def __aenter__(self) -> Self:
        self._made: dict[str, Answer] = {}
        self._reader = open_file(self.path if self.path.exists() else Path(":memory:"))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.close()

    async def answer(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answered:
        model, request = _ASKED.get()
        if key in self._made:
            model.add(self._made[key].usage, paid=False)
            return Answered(self._made[key], journaled=True)
        found = self.find(key)
        if found is None:
            answer, paid = await ask(), True
        else:
            turns = [{"role": m.role, "content": m.content} for m in request.messages]
            model.learn(turns, found, request.purpose)
            answer, paid = found, self._mine(key)
        self._made[key] = answer
        model.add(answer.usage, paid=paid)
        return Answered(answer, journaled=not paid)

    def _mine(self, key: str) -> bool:
        """Whether this run, or a shard of it, has paid for the reply under ``key``."""
        row = self._reader.execute("SELECT run FROM replies WHERE key = ?", (key,)).fetchone()
        return bool(row) and f"{row[0]}/".startswith(f"{self.run}/")

    async def intend(self, key: str, estimate: Usage) -> int:
        return 0

    async def forgive(self, intent: int) -> None: ...

    async def record(self, key: str, intent: int | None, model: str, answer: Answer) -> Answer:
        return answer


class Rehearsal:
    """Stands for ``open_llms`` in the rehearsal of a run; ``models`` fill as it goes on, and
    ``spent`` is what the run has paid for already.

    ``run`` is the name that the run has in the journal: what it has paid for counts, what others
    have paid for is free. ``journal`` is its file, if not the default one.
    """

    def __init__(self, sections: Mapping[str, LLMSection], journal: Path | None, run: str) -> None:
        self.journal = journal or default_path()
        self.spent = Cost()
        self._run = run
        self.models = {
            name: Model(section, Counter(section), PrefixCache(section))
            for name, section in sections.items()
        }

    @asynccontextmanager
    async def open(
        self,
        sections: Mapping[str, LLMSection],
        budget: BudgetSection | None = None,
        journal: Path | None = None,
        *,
        prompts: Path | None = None,
        ledger: Ledger | None = None,
        **_: Any,
    ) -> AsyncIterator[LLMs]:
        """Open a client for every section; takes what ``open_llms`` takes."""
        accounts = ledger or Ledger()
        async with _Overlay(self.journal, self._run) as book:
            self.spent = book.spent()
            shared = Shared(
                book, Budget(BudgetSection()), accounts, Backoff(base=0), Templates(prompts)
            )
            clients = {
                name: _Noting(self._client(section, shared), self.models[name])
                for name, section in sections.items()
            }
            yield LLMs(clients, accounts, book)

    def _client(self, section: LLMSection, shared: Shared) -> LLMClient:
        return LayeredClient(section, _Pretender(), shared, Tickets(None), Slots(_UNLIMITED))
