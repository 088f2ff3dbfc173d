"""What requests leave by: it counts those under way, and can be closed behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets requests out. Once closed it holds back every further one, until it is cancelled.

    ``in_flight`` are under way, ``sent`` all that ever left, and ``seconds`` the sum of the times
    that they took so far; all may be read from any thread.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.sent = 0
        self.seconds = 0.0
        self._counted = time.monotonic()
        self._closed = False
        self._empty = asyncio.Event()

    async def __aenter__(self) -> None:
        if self._closed:
            await asyncio.get_running_loop().create_future()
        self._count(1)
        self.sent += 1

    async def __aexit__(self, *_: object) -> None:
        self._back()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While its answer is being kept, a request that was let out is still under way."""
        self._count(1)
        try:
            yield
        finally:
            self._back()

    def close(self) -> None:
        """Let nothing more out."""
        self._closed = True
        self._look()

    async def empty(self) -> None:
        """Return when it is closed and nothing is under way."""
        await self._empty.wait()
        while self.in_flight:
            self._empty.clear()
            await self._empty.wait()

    def _back(self) -> None:
        self._count(-1)
        self._look()

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self.seconds += self.in_flight * (now - self._counted)
        self._counted = now
        self.in_flight += change

    def _look(self) -> None:
        if self._closed and not self.in_flight:
            self._empty.set()
