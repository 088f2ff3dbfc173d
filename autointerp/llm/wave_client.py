"""A client that asks in waves, and what opens it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from autointerp.llm.asking import Asked, Bill, Shared, consequence
from autointerp.llm.batches import Carrier
from autointerp.llm.client import LLMFailure, Reply, Request, Usage
from autointerp.llm.depot import Depot
from autointerp.llm.journal import Journal, key_of
from autointerp.llm.journal_batches import BatchBook
from autointerp.llm.keys import address
from autointerp.llm.layers import Layers
from autointerp.llm.limits import Slots
from autointerp.llm.packed import Packed
from autointerp.llm.pricing import dollars, prices_of
from autointerp.llm.queueing import Afloat, Room
from autointerp.llm.transport import Answer, Fault, Refusal
from autointerp.llm.transport import Path as Endpoint
from autointerp.llm.waves import Waves
from autointerp.sections import LLMSection


class WaveClient(Layers):
    """Has every request go out with others. A request that failed goes with a later wave."""

    def __init__(self, section: LLMSection, shared: Shared, waves: Waves, room: Room) -> None:
        super().__init__(section, shared, Slots(room.most))
        self._waves = waves
        self._room = room

    async def complete(self, request: Request) -> Reply:
        """Answer ``request``; see ``LLMClient.complete``."""
        request = replace(request, messages=Packed(request.messages))
        self._room.waiting += 1
        try:
            return await super().complete(request)
        finally:
            self._room.leave()

    async def _ask(self, request: Request) -> Asked:
        constrained = not self._plain
        # Thousands wait at a time: a body is written again rather than kept.
        key = key_of(self._where, self._bodies.body(request, constrained), request.repeat)
        answered = await self._shared.journal.answer(
            key, lambda: self._spend(key, request, constrained)
        )
        return self._accounted(request, key, answered)

    async def _spend(self, key: str, request: Request, constrained: bool) -> Answer:
        body = self._bodies.body(request, constrained)
        bill = Bill(self._bodies.estimate(body, request))
        del body
        budget = self._shared.budget
        await budget.reserve(bill.estimate)
        try:
            return await self._attempts(key, request, constrained, bill)
        finally:
            budget.settle(bill.estimate, bill.spent)

    async def _attempts(self, key: str, request: Request, constrained: bool, bill: Bill) -> Answer:
        """Join wave after wave, until one brings an answer or a refusal."""
        endpoint: Endpoint = "/completions" if request.echo else "/chat/completions"
        waves, last = self._shared.backoff.attempts, ""
        for _ in range(waves):
            async with self._slots:
                bill.open = True
                body = self._bodies.body(request, constrained)
                answer = self._waves.join(key, endpoint, body, bill.estimate)
                del body
                try:
                    answered = await answer
                except Fault as fault:
                    self._shared.ledger.faults[fault.kind] += 1
                    bill.close(bill.estimate if fault.billed else Usage())
                    last = fault.reason
                    continue
                except Refusal as refusal:
                    bill.close(Usage())
                    raise consequence(refusal) from None
                bill.close(answered.usage)
                return answered
        raise LLMFailure(f"{self.model}: no answer in {waves} waves; at last: {last}")


def open_waves(section: LLMSection, where: str, journal: Journal, afloat: Afloat) -> Waves:
    """Waves to one model; they are to be recovered before anything is asked.

    Raises:
        AutointerpError: if the key is missing.
    """
    limits = section.waves
    assert limits is not None
    place = f"{address(section)} {section.model} {section.api_key_env}"
    name = hashlib.blake2b(f"{journal.run}\0{place}".encode(), digest_size=10).hexdigest()
    prices = prices_of(section)

    def priced(answer: Answer) -> Answer:
        cost = dollars(prices, answer.usage)
        return replace(answer, usage=replace(answer.usage, dollars=cost))

    folder = journal.path.parent / "batches" / name
    depot = Depot(
        limits=limits,
        carrier=_carrier(section, where, folder),
        journal=journal,
        book=BatchBook(journal.path, journal.run, place),
        folder=folder,
        model=section.model,
        priced=priced,
        afloat=afloat,
    )
    return Waves(depot)


def _carrier(section: LLMSection, where: str, folder: Path) -> Carrier:
    if section.waves is not None and section.waves.command:
        from autointerp.llm.batch_program import BatchProgram

        return BatchProgram(section, where, folder)
    from autointerp.llm.batch_api import BatchAPI

    return BatchAPI(section, where)
