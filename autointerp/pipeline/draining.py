"""Ends work on a signal so that nothing paid for is lost: requests under way get their answers."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from autointerp.llm.gate import Gate

_log = logging.getLogger(__name__)


def run_drained(
    runner: asyncio.Runner, work: Coroutine[Any, Any, None], gate: Gate, seconds: float
) -> None:
    """Run ``work`` in ``runner``'s loop.

    On SIGINT or SIGTERM nothing more is asked, and what is under way has up to ``seconds`` to be
    answered and journaled; a second signal stops at once.

    Raises:
        KeyboardInterrupt: after a signal.
    """
    drain = _Drain(runner.get_loop(), gate, seconds)
    with drain.listening():
        runner.run(drain.over(work))
    if drain.asked:
        raise KeyboardInterrupt


class _Drain:
    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate, seconds: float) -> None:
        self.asked = False
        self._loop, self._gate, self._seconds = loop, gate, seconds
        self._begun = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals meanwhile; one that is ignored stays so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        heard = [number for number, handler in before.items() if handler != signal.SIG_IGN]
        for number in heard:
            signal.signal(number, self._hear)
        try:
            yield
        finally:
            for number in heard:
                signal.signal(number, before[number])

    async def over(self, work: Coroutine[Any, Any, None]) -> None:
        """The work, until it is done or drained."""
        task = asyncio.ensure_future(work)
        drained = asyncio.ensure_future(self._drained())
        try:
            await asyncio.wait({task, drained}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            drained.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if not (self.asked and task.cancelled()):
            await task

    async def _drained(self) -> None:
        await self._begun.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._gate.empty()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._gate.close()
        self._begun.set()
        if waiting := self._gate.in_flight:
            _log.warning(
                "%d requests in flight have %g s to be answered; interrupt again to stop at once",
                waiting,
                self._seconds,
            )
