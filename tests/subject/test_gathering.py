"""One thread for many coroutines: what is asked together is answered together, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from autointerp.subject.gathering import Gatherer


class Doubler:
    """Doubles numbers; refuses negative ones; remembers the lots."""

    def __init__(self) -> None:
        self.lots: list[list[int]] = []

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.lots.append(list(numbers))
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * n for n in numbers]


def gather(work: Callable[[Gatherer[int, int]], Awaitable[Any]], **options: int) -> Any:
    doubler = Doubler()

    async def opened() -> Any:
        gatherer = Gatherer(doubler, "doubler", **{"lot": 100, "memory": 100, **options})
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
