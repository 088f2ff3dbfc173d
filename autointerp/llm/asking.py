"""What the layers of a client pass to each other: a request that is asked, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, field

from autointerp.latents import AutointerpError
from autointerp.llm.accounts import Ledger
from autointerp.llm.client import BudgetExhausted, LLMFailure, Request, Usage
from autointerp.llm.journal import Journal
from autointerp.llm.limits import Backoff, Budget
from autointerp.llm.templates import Templates
from autointerp.llm.transport import Answer, Refusal


@dataclass(frozen=True)
class Shared:
    """What all clients of a run have in common."""

    journal: Journal
    budget: Budget
    ledger: Ledger
    backoff: Backoff
    templates: Templates


@dataclass(frozen=True)
class Asked:
    """An answer, the request that it answers, and its key."""

    request: Request
    answer: Answer
    journaled: bool
    key: str


@dataclass
class Bill:
    """What one request has cost so far; an open attempt counts as its estimate."""

    estimate: Usage
    settled: Usage = field(default_factory=Usage)
    open: bool = False

    @property
    def spent(self) -> Usage:
        return self.settled + self.estimate if self.open else self.settled

    def close(self, usage: Usage) -> None:
        self.settled += usage
        self.open = False


class SchemaRefused(LLMFailure):
    """The endpoint knows no structured outputs."""


def consequence(refusal: Refusal) -> Exception:
    """What a refusal means for the one who asked."""
    if refusal.kind == "schema":
        return SchemaRefused(refusal.reason)
    if refusal.kind == "account":
        return BudgetExhausted(refusal.reason)
    if refusal.kind == "setup":
        return AutointerpError(refusal.reason)
    return LLMFailure(refusal.reason)
