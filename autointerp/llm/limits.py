"""What holds requests back: budgets, requests a minute, and how many are in flight."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from asyncio_throttle.throttler import Throttler

from autointerp.llm.client import BudgetExhausted, Usage
from autointerp.sections import BudgetSection

MOST_RETRY_AFTER = 600.0  # seconds; a server that asks for more is asked again sooner


class Budget:
    """Admits requests while dollars, prompt tokens and hours last.

    What a request may cost is set aside before it is sent, so that many in flight cannot
    overspend together. ``spent`` is what earlier starts of the run have spent, possibly billed
    requests included.
    """

    def __init__(
        self,
        limits: BudgetSection,
        spent: Usage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._spent = spent or Usage()
        self._reserved = Usage()
        self._clock = clock
        self._start = clock()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._exhausted: str | None = None

    async def reserve(self, estimate: Usage) -> None:
        """Set ``estimate`` aside, after those in flight if it does not fit beside them.

        Raises:
            BudgetExhausted: if it does not fit at all, and from then on always.
        """
        while True:
            short = self._exhausted or self._shortage(estimate)
            if short is None:
                self._reserved += estimate
                self._wake_next()
                return
            if self._exhausted or self._reserved == Usage():
                self._exhausted = short
                while self._waiters:
                    self._wake_next()
                raise BudgetExhausted(short)
            await self._wait()

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_next()  # woken and cancelled in the same moment
            raise

    def settle(self, estimate: Usage, spent: Usage) -> None:
        """Replace what was set aside by what was spent, or may have been."""
        self._reserved = Usage(
            self._reserved.prompt_tokens - estimate.prompt_tokens,
            self._reserved.cached_tokens - estimate.cached_tokens,
            self._reserved.completion_tokens - estimate.completion_tokens,
            self._reserved.dollars - estimate.dollars,
        )
        if not self._reserved.prompt_tokens:
            self._reserved = Usage()  # nothing in flight: no rounding of dollars is left over
        self._spent += spent
        self._wake_next()

    def _wake_next(self) -> None:
        """Have one look for room; who finds some wakes the next. Thousands may wait."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _shortage(self, estimate: Usage) -> str | None:
        limits, taken = self._limits, self._spent + self._reserved
        if limits.hours is not None and self._clock() - self._start >= limits.hours * 3600:
            return _resumable("hours", f"{limits.hours:g} hours", "")
        if limits.dollars is not None and taken.dollars + estimate.dollars > limits.dollars:
            spent = f" ({self._spent.dollars:.4f} spent)"
            return _resumable("dollars", f"{limits.dollars:g} dollars", spent)
        tokens = limits.prompt_tokens
        if tokens is not None and taken.prompt_tokens + estimate.prompt_tokens > tokens:
            spent = f" ({self._spent.prompt_tokens} spent)"
            return _resumable("prompt_tokens", f"{tokens} prompt tokens", spent)
        return None


def _resumable(name: str, limit: str, spent: str) -> str:
    return f"the budget of {limit} does not last{spent}; raise budget.{name} and run again to go on"


class Tickets:
    """Lets at most ``per_minute`` requests go in any ``period`` of seconds.

    One dispatcher asks the throttle for all who wait, since every waiter of asyncio-throttle
    polls a hundred times a second.
    """

    def __init__(self, per_minute: int | None, period: float = 60.0) -> None:
        self._throttle = Throttler(per_minute, period) if per_minute is not None else None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._dispatcher: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Wait for leave to send one request."""
        if self._throttle is None:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._dispatcher is None or self._dispatcher.done():
            self._dispatcher = asyncio.create_task(self._dispatch(self._throttle))
        await waiter

    async def close(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)

    async def _dispatch(self, throttle: Throttler) -> None:
        while self._waiters:
            await throttle.acquire()  # type: ignore[no-untyped-call]
            while self._waiters:  # those cancelled meanwhile need no ticket
                waiter = self._waiters.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    break


class Slots:
    """How many requests are in flight: as many as the server takes, up to ``most``.

    A server that refuses a request shows that those beside it are as many as it takes. One that
    does not answer in time has too many: they are halved, once for all that were sent before the
    last halving. With every round of answers there is room for one more.

    ``ahead`` lets in a quarter more, who get ready meanwhile.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.epoch = 0
        self.ahead = asyncio.Semaphore(most + 1 + most // 4)
        self._busy = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self._busy < int(self.limit) and not self._waiters:
            self._busy += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give_back()  # the slot came in the same moment as the cancellation
            raise

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def refused(self) -> None:
        """Make room for no more than are in flight beside a request that was refused."""
        self.limit = max(1.0, min(self.limit, float(self._busy - 1)))

    def shrink(self, epoch: int) -> None:
        """Halve, for a request that was sent in ``epoch``."""
        if epoch == self.epoch:
            self.limit = max(1.0, self.limit / 2)
            self.epoch += 1

    def grow(self) -> None:
        """Make room after an answer."""
        if self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
            self._hand_over()

    def _give_back(self) -> None:
        self._busy -= 1
        self._hand_over()

    def _hand_over(self) -> None:
        while self._waiters and self._busy < int(self.limit):
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._busy += 1
                waiter.set_result(None)


@dataclass(frozen=True)
class Backoff:
    """How often and when a request is sent again: full jitter, doubling from ``base`` seconds.

    The jitter is drawn from ``seed`` and the request's key.
    """

    base: float = 0.5
    most: float = 60.0
    attempts: int = 8
    seed: int = 0

    def wait(self, key: str, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (from 0)."""
        draw = random.Random(f"{self.seed}/{key}/{attempt}").random()
        jitter = draw * min(self.most, self.base * 2.0**attempt)
        if retry_after is None:
            return jitter
        return min(retry_after, MOST_RETRY_AFTER) + min(jitter, self.base)
