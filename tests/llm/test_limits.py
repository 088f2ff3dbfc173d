"""Requests a minute, requests in flight, back-off."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_server import LLMServer

from autointerp.llm.client import LLMFailure, Message, Request
from autointerp.llm.limits import Backoff, Slots, Tickets
from autointerp.llm.opening import open_llms
from autointerp.sections import LLMSection


def test_tickets_keep_to_the_limit_in_every_period() -> None:
    async def work() -> list[float]:
        tickets, times = Tickets(10, period=0.2), []
        loop = asyncio.get_running_loop()

        async def one() -> None:
            await tickets.take()
            times.append(loop.time())

        await asyncio.gather(*(one() for _ in range(35)))
        await tickets.close()
        return times

    times = asyncio.run(work())
    assert all(b - a > 0.19 for a, b in zip(times, times[10:], strict=False))


def test_a_cancelled_waiter_costs_no_ticket() -> None:
    async def work() -> None:
        tickets = Tickets(1, period=0.1)
        await tickets.take()
        cancelled = asyncio.create_task(tickets.take())
        await asyncio.sleep(0)
        cancelled.cancel()
        async with asyncio.timeout(0.5):
            await tickets.take()
        await tickets.close()

    asyncio.run(work())


def test_retries_count_as_requests_a_minute(tmp_path: Path) -> None:
    async def work(server: LLMServer) -> None:
        section = LLMSection(model="test", base_url=server.url, requests_per_minute=5)
        backoff, journal = Backoff(base=0), tmp_path / "j.sqlite"
        async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
            ask = llms.clients["judge"].complete
            requests = (Request((Message("user", str(n)),)) for n in range(10))
            tasks = [asyncio.create_task(ask(request)) for request in requests]
            while len(server.stats.arrivals) < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # more would come now
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with LLMServer(faults={"429": 0.5}) as server:
        asyncio.run(work(server))
        assert len(server.stats.arrivals) == 5
        assert server.stats.faults["429"] > 0


def test_slots_halve_once_a_round_and_grow_back() -> None:
    slots = Slots(16)
    epoch = slots.epoch
    slots.shrink(epoch)
    slots.shrink(epoch)  # sent before the first halving
    assert slots.limit == 8
    for _ in range(200):
        slots.grow()
    assert slots.limit == 16
    for _ in range(10):
        slots.shrink(slots.epoch)
    assert slots.limit == 1


def test_a_server_that_refuses_some_shows_how_many_it_takes() -> None:
    """64 are sent to one that takes 20: 44 refusals leave room for those 20."""

    async def work() -> float:
        slots = Slots(64)
        for _ in range(64):
            await slots.__aenter__()
        for _ in range(44):
            slots.refused()
            await slots.__aexit__()
        return slots.limit

    assert asyncio.run(work()) == 20


def test_those_who_get_ready_are_a_few_more_than_there_is_room_for() -> None:
    async def work() -> int:
        slots, ready = Slots(8), 0

        async def one() -> None:
            nonlocal ready
            async with slots.ahead:
                ready += 1
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(one()) for _ in range(50)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return ready

    assert asyncio.run(work()) == 11


@given(st.lists(st.sampled_from(["shrink", "grow", "cancel"]), max_size=20))
def test_slots_are_never_lost(events: list[str]) -> None:
    async def work() -> None:
        slots = Slots(4)
        running = peak = 0

        async def one() -> None:
            nonlocal running, peak
            async with slots:
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0)
                running -= 1

        tasks = [asyncio.create_task(one()) for _ in range(12)]
        for number, event in enumerate(events):
            await asyncio.sleep(0)
            if event == "cancel":
                tasks[-1 - number % 12].cancel()
            elif event == "shrink":
                slots.shrink(slots.epoch)
            else:
                slots.grow()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert peak <= 4
        for _ in range(2):  # as many as fit still get in
            await asyncio.wait_for(asyncio.gather(*(one() for _ in range(8))), 5)

    asyncio.run(work())


def test_a_busy_server_is_asked_by_fewer_and_then_by_more_again(tmp_path: Path) -> None:
    async def work(server: LLMServer) -> tuple[int, int]:
        section = LLMSection(model="test", base_url=server.url, concurrency=32)
        backoff, journal = Backoff(base=0, attempts=30), tmp_path / "j.sqlite"
        async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
            ask = llms.clients["judge"].complete

            async def peak(first: int, faults: dict[str, float], latency: float = 0.02) -> int:
                server.faults = faults
                requests = [Request((Message("user", str(first + n)),)) for n in range(150)]
                await asyncio.gather(*map(ask, requests[:75]))
                server.stats.peak, server.latency = 0, latency
                await asyncio.gather(*map(ask, requests[75:]))
                return server.stats.peak

            busy = await peak(0, {"429": 0.5})
            for first in range(1000, 5000, 1000):
                await peak(first, {})
            # These stay long enough for all that may go out to be there together.
            return busy, await peak(5000, {}, latency=0.2)

    with LLMServer(latency=0.02) as server:
        busy, calm = asyncio.run(work(server))
    assert busy <= 8
    assert calm >= 20


@given(st.integers(0, 20), st.integers(0, 5), st.none() | st.floats(0, 1e6))
def test_back_off_is_bounded_seeded_and_honours_the_server(
    attempt: int, seed: int, retry_after: float | None
) -> None:
    backoff = Backoff(base=0.5, most=60, seed=seed)
    wait = backoff.wait("key", attempt, retry_after)
    assert wait == backoff.wait("key", attempt, retry_after)
    assert 0 <= wait <= 600.5
    if retry_after is not None:
        assert wait >= min(retry_after, 600)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("0.3", 0.3), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", 0), ("", 0), ("-5", 0)],
)
def test_retry_after_is_honoured(retry_after: str, seconds: float, tmp_path: Path) -> None:
    async def work(url: str) -> None:
        section = LLMSection(model="test", base_url=url)
        backoff, journal = Backoff(base=0, attempts=2), tmp_path / "j.sqlite"
        async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
            with pytest.raises(LLMFailure):
                await llms.clients["judge"].complete(Request((Message("user", "x"),)))

    with LLMServer(faults={"429": 1.0}, retry_after=retry_after) as server:
        asyncio.run(work(server.url))
        first, second = server.stats.arrivals
    assert second - first >= seconds
