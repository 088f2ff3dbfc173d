"""A client that asks in waves, and what opens it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import overload

from autointerp.llm.asking import Bill, Shared, consequence
from autointerp.llm.batches import Carrier
from autointerp.llm.client import LLMFailure, Message, Reply, Request, Usage
from autointerp.llm.depot import Depot
from autointerp.llm.gate import Afloat
from autointerp.llm.journal import Journal
from autointerp.llm.journal_batches import BatchBook
from autointerp.llm.layers import Layers
from autointerp.llm.limits import Slots
from autointerp.llm.pricing import prices_of
from autointerp.llm.queueing import Room
from autointerp.llm.servers import address
from autointerp.llm.transport import Answer, Fault, Refusal, Route
from autointerp.llm.waves import Waves
from autointerp.sections import LLMSection

_ERRORS = "surrogatepass"  # a text may hold what is no character


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

    def _written(self, request: Request) -> Callable[[], bytes]:
        """Thousands may wait at a time: a body is written again rather than kept."""
        return partial(self._bodies.body, request, constrained=not self._plain)

    async def _attempts(
        self, key: str, path: Route, written: Callable[[], bytes], bill: Bill
    ) -> Answer:
        waves, last = self._shared.backoff.attempts, ""
        for _ in range(waves):
            async with self._slots:
                bill.open = True
                try:
                    answer = await self._waves.join(key, path, written(), bill.estimate)
                except Fault as fault:
                    self._shared.ledger.faults[fault.kind] += 1
                    bill.close(bill.estimate if fault.billed else Usage())
                    last = fault.reason
                    continue
                except Refusal as refusal:
                    bill.close(Usage())
                    raise consequence(refusal) from None
                bill.close(answer.usage)
                return answer
        raise LLMFailure(f"{self.model}: no answer in {waves} waves; at last: {last}")


class Packed(Sequence[Message]):
    """A conversation that waits, made small: its last turn, long and no other request's, is packed.

    Those before the last are instructions and examples, which requests share.
    """

    __slots__ = ("_last", "_role", "_shared")

    def __init__(self, messages: Sequence[Message]) -> None:
        *shared, last = messages
        self._shared = tuple(shared)
        self._role = last.role
        self._last = zlib.compress(last.content.encode(errors=_ERRORS), 1)

    def __len__(self) -> int:
        return len(self._shared) + 1

    def __iter__(self) -> Iterator[Message]:
        yield from self._shared
        yield Message(self._role, zlib.decompress(self._last).decode(errors=_ERRORS))

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Message]: ...
    def __getitem__(self, at: int | slice) -> Message | Sequence[Message]:
        return tuple(self)[at]


def open_waves(section: LLMSection, where: str, journal: Journal, afloat: Afloat) -> Waves:
    """Waves to one model; they are to be recovered before anything is asked.

    Raises:
        AutointerpError: if the key is missing.
    """
    limits = section.waves
    assert limits is not None
    place = f"{address(section)} {section.model} {section.api_key_env}"
    name = hashlib.blake2b(f"{journal.run}\0{place}".encode(), digest_size=10).hexdigest()
    folder = journal.path.parent / "batches" / name
    depot = Depot(
        limits=limits,
        carrier=_carrier(section, where, folder),
        journal=journal,
        book=BatchBook(journal.path, journal.run, place),
        folder=folder,
        model=section.model,
        prices=prices_of(section),
        afloat=afloat,
    )
    return Waves(depot)


def _carrier(section: LLMSection, where: str, folder: Path) -> Carrier:
    if section.waves is not None and section.waves.command:
        from autointerp.llm.batch_program import BatchProgram

        return BatchProgram(section, where, folder)
    from autointerp.llm.batch_api import BatchAPI

    return BatchAPI(section, where)
