"""A signal lets what is under way be answered; a second one does not wait."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from autointerp.llm.gate import Gate
from autointerp.pipeline.draining import run_drained

SHORT, LONG = 0.05, 60.0  # seconds


def drained(work: Coroutine[Any, Any, None], gate: Gate, seconds: float = 10.0) -> None:
    with asyncio.Runner() as runner:
        run_drained(runner, work, gate, seconds)


async def ask(gate: Gate, answered: list[float], seconds: float) -> None:
    """Questions one after another, for ever."""
    while True:
        async with gate:
            await asyncio.sleep(seconds)
            answered.append(seconds)
        await asyncio.sleep(0)


async def signalled(
    gate: Gate, answered: list[float], *signals: signal.Signals, long: float = LONG
) -> None:
    """A short and a long question; once both are under way, the signals come."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        group.create_task(ask(gate, answered, SHORT))
        group.create_task(ask(gate, answered, long))
        while gate.in_flight < 2:
            await asyncio.sleep(0)
        for one in signals:
            loop.call_soon(os.kill, os.getpid(), one)
            await asyncio.sleep(0.01)  # it is heard


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_is_under_way_is_answered_and_nothing_more_asked(how: signal.Signals) -> None:
    gate, answered = Gate(), list[float]()
    with pytest.raises(KeyboardInterrupt):
        drained(signalled(gate, answered, how, long=0.3), gate)
    assert sorted(answered) == [SHORT, 0.3]
    assert (gate.in_flight, gate.sent) == (0, 2)


def test_it_waits_no_longer_than_allowed() -> None:
    gate, answered = Gate(), list[float]()
    with pytest.raises(KeyboardInterrupt):
        drained(signalled(gate, answered, signal.SIGTERM), gate, seconds=1.0)
    assert answered == [SHORT]


def test_a_second_signal_stops_at_once() -> None:
    gate, answered = Gate(), list[float]()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        drained(signalled(gate, answered, signal.SIGINT, signal.SIGINT), gate)
    assert time.monotonic() - began < LONG / 2
    assert LONG not in answered


def test_handlers_are_given_back_and_ignored_signals_stay_ignored() -> None:
    async def nothing() -> None:
        handler = signal.getsignal(signal.SIGINT)
        assert handler == signal.SIG_IGN

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        drained(nothing(), Gate())
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    drained(asyncio.sleep(0), Gate())
    assert signal.getsignal(signal.SIGINT) == before


def test_what_the_work_raises_is_raised() -> None:
    async def wrong() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        drained(wrong(), Gate())
