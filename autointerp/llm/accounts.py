"""Who spent what: by run, by latent, and what may have been billed without an answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from autointerp.latents import Cost
from autointerp.llm.client import Usage
from autointerp.llm.gate import Afloat, Gate


def plus(cost: Cost, usage: Usage, requests: int = 1) -> Cost:
    """``cost`` and one more answer (or several, by their sum)."""
    return Cost(
        requests=cost.requests + requests,
        prompt_tokens=cost.prompt_tokens + usage.prompt_tokens,
        cached_tokens=cost.cached_tokens + usage.cached_tokens,
        completion_tokens=cost.completion_tokens + usage.completion_tokens,
        dollars=cost.dollars + usage.dollars,
    )


def usage_of(cost: Cost) -> Usage:
    """What all answers of ``cost`` took together."""
    return Usage(cost.prompt_tokens, cost.cached_tokens, cost.completion_tokens, cost.dollars)


@dataclass
class Account:
    """``spent`` was paid now; ``journaled`` was paid before, by this run or another."""

    spent: Cost = field(default_factory=Cost)
    journaled: Cost = field(default_factory=Cost)

    def add(self, usage: Usage, journaled: bool) -> None:
        if journaled:
            self.journaled = plus(self.journaled, usage)
        else:
            self.spent = plus(self.spent, usage)

    @property
    def all(self) -> Cost:
        """What the answers cost, whenever they were paid."""
        return plus(self.spent, usage_of(self.journaled), self.journaled.requests)


_METERS: ContextVar[tuple[Account, ...]] = ContextVar("meters", default=())
_KIND: ContextVar[str] = ContextVar("kind", default="")


@contextmanager
def metered(kind: str = "") -> Iterator[Account]:
    """An account of what the block asks for, in tasks that it starts too; blocks may nest.

    ``kind`` is that of the explainer or scorer at work, which :func:`asked_for` tells those who
    count by it; in nested blocks it is the outermost one's.
    """
    account = Account()
    meters, named = _METERS.set((*_METERS.get(), account)), _KIND.set(_KIND.get() or kind)
    try:
        yield account
    finally:
        _METERS.reset(meters)
        _KIND.reset(named)


def asked_for() -> str:
    """The kind of explainer or scorer that asks at this moment; empty where nobody said."""
    return _KIND.get()


@dataclass
class Ledger:
    """The accounts of one run since it was started.

    ``faults`` counts what went wrong on the way by kind, retried and gone; ``repaired`` the
    replies that a second round mended, ``unusable`` those that it did not. ``unpriced`` answers
    came from a model with no known price: their dollars are missing from the sums. ``before`` is
    what earlier starts of the run have spent, possibly billed requests included; ``gate`` is what
    requests leave by, ``afloat`` the batches that they went out in.
    """

    total: Account = field(default_factory=Account)
    faults: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    unusable: int = 0
    unpriced: int = 0
    before: Usage = field(default_factory=Usage)
    gate: Gate = field(default_factory=Gate)
    afloat: Afloat = field(default_factory=Afloat)

    def add(self, usage: Usage, journaled: bool) -> None:
        for account in (self.total, *_METERS.get()):
            account.add(usage, journaled)
