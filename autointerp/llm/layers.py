"""The layers that every request goes through, outermost first.

Structured reply (one repair round) → journal → budget → for every attempt: an intent in the
journal, requests in flight, requests a minute, the transport. Tickets of the requests-a-minute
layer are taken last, because one taken before waiting for a slot would be used late, beside fresh
ones. Intents are written while others are in flight, a few ahead of the slots; and who waits for
the journal to keep an answer, or before another attempt, is not in flight.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from autointerp.llm.anew import of_round
from autointerp.llm.asking import Asked, Bill, SchemaRefused, Shared, consequence
from autointerp.llm.bodies import Bodies
from autointerp.llm.client import BudgetExhausted, LLMFailure, Reply, Request, Usage
from autointerp.llm.journal import key_of
from autointerp.llm.limits import Slots, Tickets
from autointerp.llm.pricing import priced
from autointerp.llm.servers import address
from autointerp.llm.structured import ContentFault, read_reply
from autointerp.llm.transport import Answer, Fault, Refusal, Route, Transport
from autointerp.sections import LLMSection

_PLAIN = "plain"  # the answer that marks an endpoint without structured outputs
_log = logging.getLogger(__name__)


class _Attempt(NamedTuple):
    """What came of sending once, and its intent in the journal."""

    intent: int
    came: Answer | Fault | Refusal


class Layers(ABC):
    """Answers requests to one model; those who inherit say how a request is sent."""

    def __init__(self, section: LLMSection, shared: Shared, slots: Slots) -> None:
        self._section = section
        self._shared = shared
        self._slots = slots
        self._bodies = Bodies(section, shared.templates)
        self._where = address(section)
        self._plain_key = key_of(self._where, f"structured {section.model}".encode(), 0)
        self._plain = section.structured == "prompt" or (
            section.structured == "auto" and shared.journal.find(self._plain_key) is not None
        )

    @property
    def model(self) -> str:
        return self._section.model

    async def complete(self, request: Request) -> Reply:
        """Answer ``request``; see ``LLMClient.complete``."""
        request = of_round(request)
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

    async def _ask_as_known(self, request: Request) -> Asked:
        """Ask with the schema as the endpoint wants it, learning that from its refusal."""
        if request.schema is None:
            return await self._ask(request)
        if not self._plain:
            try:
                return await self._ask(request)
            except SchemaRefused as refused:
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

    async def _ask(self, request: Request) -> Asked:
        """One request through journal, budget, limits and retries."""
        written = self._written(request)
        body = written()
        key = key_of(self._where, body, request.repeat)
        bill = Bill(self._bodies.estimate(body, request))
        del body  # those who wait for a wave do not keep it
        path: Route = "/completions" if request.echo else "/chat/completions"
        answered = await self._shared.journal.answer(
            key, lambda: self._spend(key, path, written, bill)
        )
        ledger, answer = self._shared.ledger, answered.answer
        ledger.add(answer.usage, answered.journaled)
        if self._bodies.prices is None and not answered.journaled:
            ledger.unpriced += 1
        return Asked(request, answer, answered.journaled, key)

    def _written(self, request: Request) -> Callable[[], bytes]:
        """What gives the body of a request."""
        body = self._bodies.body(request, constrained=not self._plain)
        return lambda: body

    async def _spend(
        self, key: str, path: Route, written: Callable[[], bytes], bill: Bill
    ) -> Answer:
        budget = self._shared.budget
        await budget.reserve(bill.estimate)
        try:
            return await self._attempts(key, path, written, bill)
        finally:
            budget.settle(bill.estimate, bill.spent)

    @abstractmethod
    async def _attempts(
        self, key: str, path: Route, written: Callable[[], bytes], bill: Bill
    ) -> Answer:
        """Have the body that ``written`` gives sent until there is an answer, a refusal, or no
        attempt left. What is answered is in the journal."""


class LayeredClient(Layers):
    """Sends every request by itself. Opened by ``open_llms``."""

    def __init__(
        self,
        section: LLMSection,
        transport: Transport,
        shared: Shared,
        tickets: Tickets,
        slots: Slots,
    ) -> None:
        super().__init__(section, shared, slots)
        self._transport = transport
        self._tickets = tickets

    async def _attempts(
        self, key: str, path: Route, written: Callable[[], bytes], bill: Bill
    ) -> Answer:
        body = written()
        backoff, wait, last, reached = self._shared.backoff, 0.0, "", False
        for number in range(backoff.attempts):
            if number:
                await asyncio.sleep(wait)
            intent, came = await self._attempt(key, body, path, bill)
            if isinstance(came, Answer):
                bill.close(came.usage)
                with self._shared.ledger.gate.keeping():
                    return await self._shared.journal.record(key, intent, self.model, came)
            if isinstance(came, Refusal):
                await self._shared.journal.forgive(intent)
                bill.close(Usage())
                raise consequence(came)
            await self._note(came, intent, bill)
            wait, last = backoff.wait(key, number, came.retry_after), came.reason
            reached |= came.billed or came.kind != "connection"
        if not reached:  # no latent's fault, and every other would fare alike
            at = self._section.base_url or self._where
            raise BudgetExhausted(
                f"nobody answers for {self.model} at {at} ({last}); see to that server and run"
                " again to go on"
            )
        raise LLMFailure(f"{self.model}: no answer in {backoff.attempts} attempts; at last: {last}")

    async def _attempt(self, key: str, body: bytes, path: Route, bill: Bill) -> _Attempt:
        """Send once, when there is room. What is written down before and after leaves it to
        others."""
        sent = False
        async with self._slots.ahead:
            intent = await self._shared.journal.intend(key, bill.estimate)
            bill.open = True
            try:
                async with self._slots:
                    await self._tickets.take()
                    async with self._shared.ledger.gate:
                        sent = True
                        return _Attempt(intent, await self._send(body, path))
            finally:
                if not sent:
                    bill.open = False
                    self._shared.journal.call_off(intent)

    async def _send(self, body: bytes, path: Route) -> Answer | Fault | Refusal:
        """What comes back, and what it says of how many the server takes."""
        epoch = self._slots.epoch
        try:
            answer = priced(self._bodies.prices, await self._transport.send(body, path))
        except Fault as fault:
            if fault.kind == "busy":
                self._slots.refused()
            elif fault.kind == "timeout":
                self._slots.shrink(epoch)
            return fault
        except Refusal as refusal:
            return refusal
        self._slots.grow()
        return answer

    async def _note(self, fault: Fault, intent: int, bill: Bill) -> None:
        """Count a fault and draw its consequences for money."""
        self._shared.ledger.faults[fault.kind] += 1
        if fault.billed:
            bill.close(bill.estimate)
        else:
            bill.close(Usage())
            await self._shared.journal.forgive(intent)


def _reply(last: Asked, data: Any, rounds: list[Asked]) -> Reply:
    return Reply(
        text=last.answer.text,
        data=data,
        logprobs=last.answer.logprobs,
        usage=_usage(rounds),
        journaled=all(asked.journaled for asked in rounds),
        key=last.key,
        answers=len(rounds),
    )


def _usage(rounds: Iterable[Asked]) -> Usage:
    return sum((asked.answer.usage for asked in rounds), Usage())
