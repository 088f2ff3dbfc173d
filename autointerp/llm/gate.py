"""What is under way: requests, which leave by a gate that can be closed, and batches."""

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


class Afloat:
    """The batches under way, their requests, and how many of these are answered, as far as that is
    told. May be read from any thread."""

    def __init__(self) -> None:
        self._batches: dict[str, tuple[int, int]] = {}

    def note(self, batch: str, requests: int, answered: int = 0) -> None:
        self._batches[batch] = requests, answered

    def ashore(self, batch: str) -> None:
        """A batch is under way no more."""
        self._batches.pop(batch, None)

    def counts(self) -> dict[str, int]:
        """``batches``, ``requests`` and ``answered``; empty if there are no batches."""
        found = list(self._batches.values())
        if not found:
            return {}
        requests, answered = (sum(numbers) for numbers in zip(*found, strict=True))
        return {"batches": len(found), "requests": requests, "answered": answered}
