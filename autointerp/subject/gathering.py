"""Workers for many coroutines: whatever waits when one gets free goes in together."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from autointerp.latents import AutointerpError
from autointerp.subject.recent import Recent

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")
Answer = Callable[[Sequence[Q]], Sequence[A]]

MOST_LOSSES = 5  # of the same question, after which it is not asked again


class LostError(Exception):
    """A worker is gone, with the lot it worked on; another may answer that.

    ``is_back`` waits a moment for the worker to be replaced, and tells whether it is; it raises
    AutointerpError when there is nothing left to wait for.
    """

    def __init__(self, is_back: Callable[[], bool]) -> None:
        self.is_back = is_back
        super().__init__("a worker is gone")


class _Worker(Generic[Q, A]):
    """What answers lots, and the thread in which it is called."""

    def __init__(self, answer: Answer[Q, A], name: str) -> None:
        self.answer = answer
        self.thread = ThreadPoolExecutor(1, name)

    def answers(self, lot: Sequence[Q]) -> dict[Q, A]:
        """In the thread, so that too few answers are an error of those who asked."""
        return dict(zip(lot, self.answer(lot), strict=True))


class Gatherer(Generic[Q, A]):
    """Has questions answered in lots, by workers in a thread each; close it with :meth:`aclose`.

    A question that is asked again, or by several at once, is worked on once, as long as the
    answer is remembered.

    Args:
        workers: each gets up to ``lot`` different questions, and returns an answer each, in order.
            What waits is shared out among those that are free. The lot of one that raises
            :class:`LostError` goes to another, and to itself when it is back.
        memory: where answers are remembered; by default they are not.
    """

    def __init__(
        self,
        workers: Sequence[Answer[Q, A]],
        name: str,
        *,
        lot: int,
        memory: Recent[Q, A] | None = None,
    ) -> None:
        self._workers = [_Worker(answer, name) for answer in workers]
        self._free = list(self._workers)
        self._name, self._lot = name, lot
        self._memory: Recent[Q, A] = Recent(0) if memory is None else memory
        self._waiting: dict[Q, asyncio.Future[A]] = {}
        self._queued: deque[Q] = deque()
        self._losses: Counter[Q] = Counter()
        self._under_way: set[asyncio.Task[None]] = set()
        self._closed = False
        self._nobody: AutointerpError | None = None  # why there is no worker left

    async def ask(self, questions: Sequence[Q]) -> list[A]:
        """The answers in the questions' order. What a worker raises is raised here."""
        if self._closed:
            raise RuntimeError(f"{self._name} is closed and answers no more")
        if self._nobody is not None:
            raise self._nobody
        found = self._memory.among(questions)
        waiting = {q: self._future(q) for q in questions if q not in found}
        if waiting:  # `wait` leaves the futures alone when this caller is cancelled
            await asyncio.wait(waiting.values())
        found |= {question: future.result() for question, future in waiting.items()}
        return [found[question] for question in questions]

    def waits_for(self, question: Q) -> bool:
        """Whether someone waits for the answer."""
        return question in self._waiting

    async def aclose(self) -> None:
        """Cancel what is waiting, let the lots under way end, and end the threads."""
        self._closed = True
        self._queued.clear()
        for future in self._waiting.values():
            future.cancel()
        try:
            if self._under_way:  # they end by themselves, even if this caller is cancelled
                await asyncio.wait(self._under_way)
        finally:
            for worker in self._workers:
                worker.thread.shutdown()

    def _future(self, question: Q) -> asyncio.Future[A]:
        if question not in self._waiting:
            loop = asyncio.get_running_loop()
            self._waiting[question] = loop.create_future()
            if not self._queued:  # later, so that what is asked at once goes in together
                loop.call_soon(self._hand_out)
            self._queued.append(question)
        return self._waiting[question]

    def _hand_out(self) -> None:
        """Give what is queued to the workers that are free, in equal shares."""
        while self._queued and self._free:
            share = -(-len(self._queued) // len(self._free))
            lot = [self._queued.popleft() for _ in range(min(self._lot, share))]
            task = asyncio.create_task(self._have_answered(self._free.pop(0), lot))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _have_answered(self, worker: _Worker[Q, A], lot: Sequence[Q]) -> None:
        loop = asyncio.get_running_loop()
        answered = loop.run_in_executor(worker.thread, worker.answers, lot)
        answered.add_done_callback(_heard)
        await asyncio.wait([answered])
        error = answered.exception()
        if isinstance(error, LostError):
            self._ask_again(lot)
            self._hand_out()
            if not await self._is_back(worker, error):
                return
        elif error is not None:
            self._fail(lot, error)
        else:
            self._deliver(answered.result())
        self._free.append(worker)
        self._hand_out()

    def _deliver(self, answers: dict[Q, A]) -> None:
        for question, answer in answers.items():
            self._memory.put(question, answer)
            self._losses.pop(question, None)
            future = self._waiting.pop(question)
            if not future.done():  # else cancelled by closing
                future.set_result(answer)

    def _fail(self, lot: Sequence[Q], error: BaseException) -> None:
        for question in lot:
            future = self._waiting.pop(question)
            if not future.done():
                future.add_done_callback(_heard)
                future.set_exception(error)

    def _ask_again(self, lot: Sequence[Q]) -> None:
        """Put the lot of a lost worker first in the queue, but for what too many were lost on."""
        self._losses.update(lot)
        fatal = [question for question in lot if self._losses[question] >= MOST_LOSSES]
        if fatal:
            self._fail(
                fatal,
                AutointerpError(
                    f"{self._name}: {MOST_LOSSES} workers died of the same request; see their logs,"
                    " and whether memory is enough"
                ),
            )
        if not self._closed:
            self._queued.extendleft(q for q in reversed(lot) if q in self._waiting)

    async def _is_back(self, worker: _Worker[Q, A], lost: LostError) -> bool:
        """Wait until a worker is replaced; without it, others go on, and with none, nobody."""
        loop = asyncio.get_running_loop()
        try:
            while not await loop.run_in_executor(worker.thread, lost.is_back):
                if self._closed:
                    return False
        except AutointerpError as error:
            self._workers.remove(worker)
            worker.thread.shutdown(wait=False)
            if not self._workers:
                self._nobody = error
                self._queued.clear()
                self._fail(list(self._waiting), error)
            return False
        return True


def _heard(future: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody may be left to hear, of which asyncio complains."""
    if not future.cancelled():
        future.exception()
