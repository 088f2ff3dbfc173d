"""The local engine: runs tasks in one event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def run_tasks(
    items: Iterable[Item],
    task: Callable[[Item], Awaitable[Result]],
    done: Callable[[Item, Result], None],
    *,
    concurrency: int,
) -> None:
    """Run ``task`` on every item, at most ``concurrency`` at a time.

    ``done`` is called in the event loop as each finishes, one at a time. What a task or
    ``done`` raises cancels the others and is raised here.
    """
    waiting = iter(items)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(_work(waiting, task, done))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _work(
    waiting: Iterator[Item],
    task: Callable[[Item], Awaitable[Result]],
    done: Callable[[Item, Result], None],
) -> None:
    for item in waiting:
        done(item, await task(item))
        await asyncio.sleep(0)  # tasks that never wait must not shut out signals and others
