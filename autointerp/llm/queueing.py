"""What holds waves back: the tokens that may be queued at a time, and latents that would wait."""

from __future__ import annotations

import asyncio


class Queue:
    """Batches under way and their prompt tokens, of which there may be so many at a time."""

    def __init__(self, most_tokens: int | None) -> None:
        self.batches = 0
        self._tokens = 0
        self._most = most_tokens
        self._left = asyncio.Event()

    async def enter(self, tokens: int) -> None:
        """Wait for room, and take it; a batch that is larger than all of it goes alone."""
        while self.batches and self._most is not None and self._tokens + tokens > self._most:
            await self._left.wait()
        self.batches += 1
        self._tokens += tokens

    def leave(self, tokens: int) -> None:
        self.batches -= 1
        self._tokens -= tokens
        self._left.set()
        self._left = asyncio.Event()

    async def left(self, seconds: float) -> None:
        """Return when a batch has left, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._left.wait()
        except TimeoutError:
            return


class Room:
    """Keeps latents from being begun while as many requests as may be are waiting already.

    A latent asks for much at once, and holds its windows meanwhile: so many would not fit into
    memory.
    """

    STEPS = 4  # of the event loop, in which a latent that was begun asks for what it needs

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = 0
        self._freed = asyncio.Event()

    async def enter(self) -> None:
        """Return when one more may be begun, after what the last one asks for is counted."""
        for _ in range(self.STEPS):
            await asyncio.sleep(0)
        while self.waiting >= self.most:
            self._freed.clear()
            await self._freed.wait()

    def leave(self) -> None:
        """A request waits no more."""
        self.waiting -= 1
        self._freed.set()
