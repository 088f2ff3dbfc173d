"""The layers that every request goes through, outermost first.

Structured reply (one repair round) → journal → budget → requests in flight → for every attempt:
requests a minute, an intent in the journal, the transport. Tickets of the requests-a-minute layer
are taken last, because one taken before waiting for a slot would be used late, beside fresh ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from autointerp.latents import AutointerpError
from autointerp.llm.accounts import Ledger
from autointerp.llm.bodies import Bodies
from autointerp.llm.client import BudgetExhausted, LLMFailure, Reply, Request, Usage
from autointerp.llm.journal import Journal, key_of
from autointerp.llm.limits import Backoff, Budget, Slots, Tickets
from autointerp.llm.structured import ContentFault, read_reply
from autointerp.llm.templates import Templates
from autointerp.llm.transport import Answer, Fault, Path, Refusal, Transport
from autointerp.sections import LLMSection

_PLAIN = "plain"  # the answer that marks an endpoint without structured outputs
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """What all clients of a run have in common."""

    journal: Journal
    budget: Budget
    ledger: Ledger
    backoff: Backoff
    templates: Templates


@dataclass(frozen=True)
class _Asked:
    """An answer, the request that it answers, and its key."""

    request: Request
    answer: Answer
    journaled: bool
    key: str


@dataclass
class _Bill:
    """What one request has cost so far; an open attempt counts as its estimate."""

    estimate: Usage
    settled: Usage = field(default_factory=Usage)
    open: bool = False

    @property
    def spent(self) -> Usage:
        return self.settled + self.estimate if self.open else self.settled

    def close(self, usage: Usage) -> None:
        self.settled += usage
        self.open = False


class _SchemaRefused(LLMFailure):
    """The endpoint knows no structured outputs."""


class LayeredClient:
    """Answers requests to one model through all layers. Opened by ``open_llms``."""

    def __init__(
        self,
        section: LLMSection,
        transport: Transport,
        shared: Shared,
        tickets: Tickets,
        slots: Slots,
    ) -> None:
        self._section = section
        self._transport = transport
        self._shared = shared
        self._tickets = tickets
        self._slots = slots
        self._bodies = Bodies(section, shared.templates)
        # A server that the run starts itself gets a new port each time: its address is not in.
        self._where = f"{section.backend} {section.base_url or 'default'}"
        self._plain_key = key_of(self._where, f"structured {section.model}".encode(), 0)
        self._plain = section.structured == "prompt" or (
            section.structured == "auto" and shared.journal.find(self._plain_key) is not None
        )

    @property
    def model(self) -> str:
        return self._section.model

    async def complete(self, request: Request) -> Reply:
        """Answer ``request``; see ``LLMClient.complete``."""
        first = await self._ask_as_known(request)
        try:
            return _reply(first, read_reply(request, first.answer.text), [first])
        except ContentFault as fault:
            complaint = str(fault)
        second = await self._ask(self._bodies.repair(first.request, first.answer.text, complaint))
        ledger = self._shared.ledger
        try:
            data = read_reply(request, second.answer.text)
        except ContentFault as fault:
            ledger.unusable += 1
            cut = " (cut off at max_tokens)" if second.answer.finish == "length" else ""
            reason = f"{self.model} gave no usable reply, nor after one repair{cut}: {fault}"
        else:
            ledger.repaired += 1
            return _reply(second, data, [first, second])
        raise LLMFailure(" ".join(reason.split()), _usage([first, second]), 2)

    async def _ask_as_known(self, request: Request) -> _Asked:
        """Ask with the schema as the endpoint wants it, learning that from its refusal."""
        if request.schema is None:
            return await self._ask(request)
        if not self._plain:
            try:
                return await self._ask(request)
            except _SchemaRefused as refused:
                if self._section.structured == "schema":
                    raise
                reason = refused.reason
            await self._remember_plain(reason)
        return await self._ask(self._bodies.with_schema_in_prompt(request))

    async def _remember_plain(self, reason: str) -> None:
        if not self._plain:
            self._plain = True
            _log.warning("%s; from now on schemas are written into the prompts", reason)
            marker = Answer(_PLAIN, Usage())
            await self._shared.journal.record(self._plain_key, None, self.model, marker)

    async def _ask(self, request: Request) -> _Asked:
        """One request through journal, budget, limits and retries."""
        body = self._bodies.body(request, constrained=not self._plain)
        key = key_of(self._where, body, request.repeat)
        answered = await self._shared.journal.answer(key, lambda: self._spend(key, body, request))
        ledger, answer = self._shared.ledger, answered.answer
        ledger.add(request.latent, answer.usage, answered.journaled)
        if self._bodies.prices is None and not answered.journaled:
            ledger.unpriced += 1
        return _Asked(request, answer, answered.journaled, key)

    async def _spend(self, key: str, body: bytes, request: Request) -> Answer:
        bill = _Bill(self._bodies.estimate(body, request))
        budget = self._shared.budget
        await budget.reserve(bill.estimate)
        try:
            async with self._slots:
                path: Path = "/completions" if request.echo else "/chat/completions"
                return await self._attempts(key, body, path, bill)
        finally:
            budget.settle(bill.estimate, bill.spent)

    async def _attempts(self, key: str, body: bytes, path: Path, bill: _Bill) -> Answer:
        """Send until there is an answer, a refusal, or no attempt left."""
        backoff, journal = self._shared.backoff, self._shared.journal
        wait, last = 0.0, ""
        for number in range(backoff.attempts):
            if number:
                await asyncio.sleep(wait)
            await self._tickets.take()
            intent = await journal.intend(key, bill.estimate)
            bill.open = True
            epoch = self._slots.epoch
            try:
                answer = self._bodies.priced(await self._transport.send(body, path))
            except Fault as fault:
                await self._note(fault, intent, epoch, bill)
                wait, last = backoff.wait(key, number, fault.retry_after), fault.reason
                continue
            except Refusal as refusal:
                await journal.forgive(intent)
                bill.close(Usage())
                raise _final(refusal) from None
            self._slots.grow()
            bill.close(answer.usage)
            return await journal.record(key, intent, self.model, answer)
        raise LLMFailure(f"{self.model}: no answer in {backoff.attempts} attempts; at last: {last}")

    async def _note(self, fault: Fault, intent: int, epoch: int, bill: _Bill) -> None:
        """Count a fault and draw its consequences for money and concurrency."""
        self._shared.ledger.faults[fault.kind] += 1
        if fault.billed:
            bill.close(bill.estimate)
        else:
            bill.close(Usage())
            await self._shared.journal.forgive(intent)
        if fault.slow:
            self._slots.shrink(epoch)


def _reply(last: _Asked, data: Any, rounds: list[_Asked]) -> Reply:
    return Reply(
        text=last.answer.text,
        data=data,
        logprobs=last.answer.logprobs,
        usage=_usage(rounds),
        journaled=all(asked.journaled for asked in rounds),
        key=last.key,
        answers=len(rounds),
    )


def _usage(rounds: Iterable[_Asked]) -> Usage:
    return sum((asked.answer.usage for asked in rounds), Usage())


def _final(refusal: Refusal) -> Exception:
    """What a refusal means for the one who asked."""
    if refusal.kind == "schema":
        return _SchemaRefused(refusal.reason)
    if refusal.kind == "account":
        return BudgetExhausted(refusal.reason)
    if refusal.kind == "setup":
        return AutointerpError(refusal.reason)
    return LLMFailure(refusal.reason)
