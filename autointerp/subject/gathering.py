"""One thread that works for many coroutines: whatever waits when it gets free goes in together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


class Gatherer(Generic[Q, A]):
    """Answers questions in lots, in one thread of its own; close it with :meth:`aclose`.

    ``answer`` gets up to ``lot`` different questions and returns an answer each, in order. The
    last ``memory`` answers are kept: a question that is asked again, or by several at once, is
    worked on once.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Sequence[A]], name: str, *, lot: int, memory: int
    ) -> None:
        self._answer, self._lot, self._memory = answer, lot, memory
        self._thread = ThreadPoolExecutor(1, name)
        self._known: OrderedDict[Q, asyncio.Future[A]] = OrderedDict()
        self._queued: deque[Q] = deque()
        self._working: asyncio.Task[None] | None = None

    async def ask(self, questions: Sequence[Q]) -> list[A]:
        """The answers in the questions' order. What ``answer`` raises is raised here."""
        futures = [self._future(question) for question in questions]
        if futures:  # `wait` leaves the futures alone when this caller is cancelled
            await asyncio.wait(futures)
        return [future.result() for future in futures]

    async def aclose(self) -> None:
        """Cancel what is waiting, let the lot under way end, and end the thread."""
        self._queued.clear()
        for future in self._known.values():
            future.cancel()
        if self._working is not None:
            await self._working
        self._thread.shutdown()

    def _future(self, question: Q) -> asyncio.Future[A]:
        if question in self._known:
            self._known.move_to_end(question)
            return self._known[question]
        future = self._known[question] = asyncio.get_running_loop().create_future()
        self._queued.append(question)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queued:
            lot = [self._queued.popleft() for _ in range(min(self._lot, len(self._queued)))]
            answered = loop.run_in_executor(self._thread, self._answer, lot)
            await asyncio.wait([answered])
            self._deliver(lot, answered)
            self._forget()

    def _deliver(self, lot: Sequence[Q], answered: asyncio.Future[Sequence[A]]) -> None:
        error = answered.exception()
        if error is None:
            for question, answer in zip(lot, answered.result(), strict=True):
                if not self._known[question].done():  # else cancelled by closing
                    self._known[question].set_result(answer)
            return
        for question in lot:
            future = self._known.pop(question)
            if not future.done():
                future.set_exception(error)
                future.exception()  # asyncio complains of one that nobody is left to hear

    def _forget(self) -> None:
        """Let the oldest answers go; those who wait for one hold it themselves."""
        for question in list(self._known)[: max(0, len(self._known) - self._memory)]:
            if self._known[question].done():
                del self._known[question]
