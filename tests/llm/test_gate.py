"""The gate that requests leave by, and the drain behind it."""

from __future__ import annotations

import asyncio

from autointerp.llm.gate import Gate


def test_a_closed_gate_holds_back_and_tells_when_the_last_is_back() -> None:
    told: list[str] = []

    async def ask(gate: Gate, name: str, seconds: float) -> None:
        async with gate:
            await asyncio.sleep(seconds)
            told.append(name)

    async def work() -> None:
        gate = Gate()
        first = asyncio.create_task(ask(gate, "first", 0.02))
        await asyncio.sleep(0)
        gate.close()
        late = asyncio.create_task(ask(gate, "late", 0.0))
        assert (gate.in_flight, gate.sent) == (1, 1)
        await gate.empty()
        assert first.done()
        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)

    asyncio.run(work())
    assert told == ["first"]


def test_an_answer_that_is_being_kept_is_still_under_way() -> None:
    async def work() -> None:
        gate = Gate()
        kept = asyncio.Event()

        async def ask() -> None:
            async with gate:
                await asyncio.sleep(0.01)
            with gate.keeping():
                await kept.wait()

        asked = asyncio.create_task(ask())
        await asyncio.sleep(0)
        gate.close()
        waiting = asyncio.create_task(gate.empty())
        await asyncio.sleep(0.03)
        assert not waiting.done()
        kept.set()
        await asyncio.wait_for(waiting, 5)
        await asked
        assert gate.in_flight == 0
        assert 0.02 < gate.seconds < 5

    asyncio.run(work())
