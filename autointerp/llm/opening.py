"""Opens the language models of a run: one journal, one budget, one set of limits per endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autointerp.latents import AutointerpError
from autointerp.llm.accounts import Ledger, usage_of
from autointerp.llm.asking import Shared, consequence
from autointerp.llm.client import LLMClient
from autointerp.llm.gate import Afloat
from autointerp.llm.journal import Journal
from autointerp.llm.keys import read_api_key
from autointerp.llm.layers import LayeredClient
from autointerp.llm.limits import Backoff, Budget, Slots, Tickets
from autointerp.llm.pricing import prices_of
from autointerp.llm.queueing import Room
from autointerp.llm.servers import address
from autointerp.llm.templates import Templates
from autointerp.llm.transport import Refusal, Server, Transport, Waiting
from autointerp.llm.vllm_command import check_installed
from autointerp.llm.wave_client import WaveClient, open_waves
from autointerp.llm.waves import Waves
from autointerp.sections import BudgetSection, LLMSection


@dataclass(frozen=True)
class LLMs:
    """The clients by their names in the configuration, and the accounts they share."""

    clients: Mapping[str, LLMClient]
    ledger: Ledger
    journal: Journal
    rooms: Sequence[Room] = ()

    @property
    def room(self) -> Callable[[], Awaitable[None]] | None:
        """Awaited before a latent is begun, where latents wait for waves; else None."""
        return self._enter if self.rooms else None

    async def _enter(self) -> None:
        for room in self.rooms:
            await room.enter()


def check_llms(
    sections: Mapping[str, LLMSection], budget: BudgetSection, *, keys: bool = True
) -> None:
    """Look for what would stop a run when it first asks: call it before any long work. ``keys``
    are not looked for where nobody will be asked.

    Raises:
        AutointerpError: if a key is not in the environment, or a budget lacks prices.
    """
    for name, section in sections.items():
        where = f"llms.{name}"
        if keys:
            read_api_key(section, where)
        if section.waves is not None and section.waves.command:
            check_installed(section.waves.command[0], where, "batch.command")
        if budget.dollars is not None and prices_of(section) is None:
            raise AutointerpError(
                f"{where}: budget.dollars needs the prices of {section.model}; set {where}.prices"
                " to {prompt: …, cached: …, completion: …} in dollars a million tokens"
            )


@asynccontextmanager
async def open_llms(
    sections: Mapping[str, LLMSection],
    budget: BudgetSection | None = None,
    journal: Path | None = None,
    run: str = "",
    endpoints: Mapping[str, str | Server] | None = None,
    backoff: Backoff | None = None,
    prompts: Path | None = None,
    ledger: Ledger | None = None,
) -> AsyncIterator[LLMs]:
    """Open a client for every section; ``async with open_llms(config.llms, …) as llms``.

    ``run`` names the run in the journal (its absolute path, say): its budget counts what earlier
    starts of it have spent.
    ``endpoints`` are the servers that the run has started, or their base URLs, by client.
    ``prompts`` is the user's prompt folder. ``ledger`` takes the accounts, if there are some.

    Raises:
        AutointerpError: before anything is asked, if a key, an endpoint or a price is missing.
    """
    limits, endpoints = budget or BudgetSection(), endpoints or {}
    check_llms(sections, limits)
    for name, section in sections.items():
        if section.backend == "vllm" and section.base_url is None and name not in endpoints:
            raise AutointerpError(f"llms.{name}: no vLLM server was started; give one's base_url")
    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(Journal(journal, run))
        accounts = ledger or Ledger()
        # What earlier starts have sent is waited for first: it counts as spent.
        waves = await _open_waves(sections, book, accounts.afloat, stack)
        before = usage_of(book.spent()) + usage_of(book.possibly_billed())
        if not accounts.total.spent.requests:  # an earlier stage's are in both
            accounts.before = before
        shared = Shared(
            book,
            Budget(limits, before),
            accounts,
            backoff or Backoff(),
            Templates(prompts),
        )
        opening = _Opening(shared, endpoints, stack, waves)
        clients = {name: opening.client(name, section) for name, section in sections.items()}
        rooms = list({id(room): room for _, room in waves.values()}.values())
        yield LLMs(clients, shared.ledger, book, rooms)


async def _open_waves(
    sections: Mapping[str, LLMSection], journal: Journal, afloat: Afloat, stack: AsyncExitStack
) -> dict[str, tuple[Waves, Room]]:
    """By client, the waves of those that ask in waves; equal sections share theirs."""
    opened: dict[str, tuple[Waves, Room]] = {}
    found: dict[str, tuple[Waves, Room]] = {}
    for name, section in sections.items():
        if section.waves is None:
            continue
        one = f"{address(section)} {section.model} {section.api_key_env} {section.waves}"
        if one not in opened:
            waves = open_waves(section, f"llms.{name}", journal, afloat)
            stack.push_async_callback(waves.close)
            try:
                await waves.recover()
            except Refusal as refusal:
                raise consequence(refusal) from None
            opened[one] = waves, Room(section.waves.in_flight)
        found[name] = opened[one]
    return found


@dataclass(frozen=True)
class _Endpoint:
    transport: Transport
    tickets: Tickets
    slots: Slots


@dataclass(frozen=True)
class _Opening:
    """Opens clients; those of one endpoint with the same limits share them."""

    shared: Shared
    endpoints: Mapping[str, str | Server]
    stack: AsyncExitStack
    waves: Mapping[str, tuple[Waves, Room]]
    opened: dict[tuple[object, ...], _Endpoint] = field(default_factory=dict)

    def client(self, name: str, section: LLMSection) -> LLMClient:
        if name in self.waves:
            return WaveClient(section, self.shared, *self.waves[name])
        server = self.endpoints.get(name, section.base_url)
        url = server if server is None or isinstance(server, str) else server.url
        limits = (section.requests_per_minute, section.concurrency, section.timeout)
        one = (section.backend, url, section.model, section.api_key_env, *limits)
        if one not in self.opened:
            self.opened[one] = self._open(name, section, server)
        end = self.opened[one]
        return LayeredClient(section, end.transport, self.shared, end.tickets, end.slots)

    def _open(self, name: str, section: LLMSection, server: str | Server | None) -> _Endpoint:
        from autointerp.llm.openai_api import OpenAITransport  # half a second of imports

        where = f"llms.{name}"
        transport: Transport
        if server is None or isinstance(server, str):
            transport = OpenAITransport(section, where, server)
        else:
            transport = Waiting(OpenAITransport(section, where, server.url), server)
        tickets = Tickets(section.requests_per_minute)
        self.stack.push_async_callback(transport.close)
        self.stack.push_async_callback(tickets.close)
        return _Endpoint(transport, tickets, Slots(section.concurrency))
