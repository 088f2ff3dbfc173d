"""Asks anew what the journal has answers to, where those answers led to a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from autointerp.llm.client import Request

REPEATS = 1000  # more than any question is repeated on purpose within one round

_ROUND: ContextVar[int] = ContextVar("round", default=0)


@contextmanager
def asking_anew(number: int) -> Iterator[None]:
    """What the block asks, in tasks that it starts too, is of this round of tries; round 0 is the
    first, and what was asked in the same round before is found in the journal."""
    token = _ROUND.set(number)
    try:
        yield
    finally:
        _ROUND.reset(token)


def of_round(request: Request) -> Request:
    """The request with a key of the present round; its seed differs too, since a server may give
    the same answer to the same seed."""
    number = _ROUND.get()
    if not number:
        return request
    seed = None if request.seed is None else (request.seed + number) % 2**31
    return replace(request, repeat=request.repeat + REPEATS * number, seed=seed)
