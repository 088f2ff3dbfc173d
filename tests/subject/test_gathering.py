"""Workers for many coroutines: what is asked together is answered together, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.latents import AutointerpError
from autointerp.subject.gathering import Gatherer, LostError
from autointerp.subject.recent import Recent


class Doubler:
    """Doubles numbers; refuses negative ones; remembers the lots."""

    def __init__(self) -> None:
        self.lots: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.lots.append(list(numbers))
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * n for n in numbers]


def gather(
    work: Callable[[Gatherer[int, int]], Awaitable[Any]], lot: int = 100, memory: int = 100
) -> Any:
    doubler = Doubler()

    async def opened() -> Any:
        gatherer = Gatherer([doubler], "doubler", lot=lot, memory=Recent(memory))
        try:
            return await work(gatherer)
        finally:
            await gatherer.aclose()

    return asyncio.run(opened()), doubler.lots


def test_what_many_ask_goes_in_together_and_answers_keep_their_order() -> None:
    def work(g: Gatherer[int, int]) -> Awaitable[Any]:
        return asyncio.gather(*(g.ask([i, 99 - i]) for i in range(10)))

    answers, lots = gather(work)
    assert answers == [[2 * i, 2 * (99 - i)] for i in range(10)]
    assert [len(lot) for lot in lots] == [20]


def test_a_question_is_worked_on_once_as_long_as_it_is_remembered() -> None:
    async def work(g: Gatherer[int, int]) -> Any:
        await asyncio.gather(g.ask([1, 2]), g.ask([2, 1, 2]))
        await g.ask([1, 3, 4])
        return await g.ask([2])

    answer, lots = gather(work)
    assert (answer, lots) == ([4], [[1, 2], [3, 4]])
    answer, lots = gather(work, memory=2)
    assert (answer, lots) == ([4], [[1, 2], [3, 4], [2]])


def test_lots_are_bounded() -> None:
    _, lots = gather(lambda g: g.ask(range(25)), lot=10)
    assert [len(lot) for lot in lots] == [10, 10, 5]


def test_nothing_asked_is_nothing_done() -> None:
    assert gather(lambda g: g.ask([])) == ([], [])


def test_an_error_reaches_those_who_asked_and_the_next_lot_goes_on() -> None:
    async def work(g: Gatherer[int, int]) -> Any:
        with pytest.raises(ValueError, match="negative"):
            await g.ask([-1])
        return await g.ask([5])

    assert gather(work)[0] == [10]


def test_closing_lets_go_of_those_who_wait() -> None:
    async def work(g: Gatherer[int, int]) -> Any:
        waiting = asyncio.create_task(g.ask(range(50)))
        await asyncio.sleep(0)
        await g.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    gather(work, lot=1)


class Mortal(Doubler):
    """Is lost at its first lots, ``dies`` of them, and is back when looked at a second time."""

    def __init__(self, dies: int, comes_back: bool = True) -> None:
        super().__init__()
        self.dies, self.comes_back = dies, comes_back

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        if self.dies:
            self.dies -= 1
            looks = iter([False, True])
            raise LostError(lambda: self.is_back(next(looks)))
        return super().__call__(numbers)

    def is_back(self, now: bool) -> bool:
        if not self.comes_back:
            raise AutointerpError("nothing took its place")
        return now


def asked_of(
    workers: Sequence[Callable[[Sequence[int]], list[int]]], count: int = 40, lot: int = 4
) -> list[int]:
    async def work() -> list[int]:
        gatherer = Gatherer(workers, "doublers", lot=lot)
        try:
            asks = (gatherer.ask([i]) for i in range(count))
            answers = await asyncio.wait_for(asyncio.gather(*asks), 30)
        finally:
            await gatherer.aclose()
        return [answer for (answer,) in answers]

    return asyncio.run(work())


def test_what_waits_is_shared_out_in_equal_parts() -> None:
    together = Barrier(2, timeout=20)

    class Meeting(Doubler):
        def __call__(self, numbers: Sequence[int]) -> list[int]:
            together.wait()  # both are at work at the same time
            return super().__call__(numbers)

    workers = [Meeting(), Meeting()]
    assert asked_of(workers, count=10, lot=100) == [2 * i for i in range(10)]
    assert [[len(lot) for lot in worker.lots] for worker in workers] == [[5], [5]]


FEW = st.lists(st.integers(0, 2), min_size=1, max_size=3).filter(lambda dies: sum(dies) < 5)


@settings(max_examples=30)
@given(dies=FEW, seed=st.integers(0, 9))
def test_whoever_is_lost_everything_is_answered_once(dies: list[int], seed: int) -> None:
    workers = [Mortal(n) for n in dies]
    lot = Random(seed).randrange(1, 50)
    assert asked_of(workers, lot=lot) == [2 * i for i in range(40)]
    answered = [n for worker in workers for lot in worker.lots for n in lot]
    assert sorted(answered) == list(range(40))


def test_the_others_go_on_without_one_that_does_not_come_back() -> None:
    gone, there = Mortal(1, comes_back=False), Doubler()
    assert asked_of([gone, there]) == [2 * i for i in range(40)]
    assert gone.lots == []


def test_without_any_worker_left_those_who_ask_are_told() -> None:
    async def work() -> None:
        gatherer = Gatherer([Mortal(1, comes_back=False)], "doublers", lot=4)
        for _ in range(2):
            with pytest.raises(AutointerpError, match="nothing took its place"):
                await asyncio.wait_for(gatherer.ask([1, 2]), 10)
        await gatherer.aclose()

    asyncio.run(work())


def test_a_request_that_kills_its_workers_is_given_up() -> None:
    with pytest.raises(AutointerpError, match="5 workers died of the same request"):
        asked_of([Mortal(5), Mortal(5)], count=1)


def test_closing_does_not_wait_for_one_that_is_lost() -> None:
    async def work() -> None:
        def lost(numbers: Sequence[int]) -> list[int]:
            raise LostError(lambda: False)

        gatherer = Gatherer([lost], "doublers", lot=4)
        waiting = asyncio.create_task(gatherer.ask([1]))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(gatherer.aclose(), 10)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(work())
