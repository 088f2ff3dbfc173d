"""Explanations, the outcomes of single questions about them, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from autointerp.latents.names import LatentId, Status

if TYPE_CHECKING:  # scipy is slow to import, and plain data does without
    from autointerp.statistics import Interval


@dataclass(frozen=True)
class Cost:
    """What was spent on one explanation or score."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """What a latent means, in words. ``kind`` tells what it fires on from what it causes.

    ``details`` is what else an explainer has to tell, in JSON's types.
    """

    latent: LatentId
    text: str
    explainer: str
    kind: Literal["input", "output"] = "input"
    status: Status = "explained"
    reason: str | None = None
    components: tuple[str, ...] = ()
    confidence: float | None = None
    cost: Cost = Cost()
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        return f"{self.latent}:{self.kind}:{self.explainer}"


class Label(NamedTuple):
    """A yes/no question: the truth, the judge's answer, and its probability of yes.

    ``request`` names the request that it was answered in: the first digits of its journal key.
    Items of one request are not independent of one another.
    """

    truth: bool
    label: bool
    probability: float | None
    source: str
    decile: int | None = None
    request: str | None = None


class Choice(NamedTuple):
    """One of ``options``: the index that was right and the one that was chosen."""

    options: int
    truth: int
    chosen: int
    source: str
    decile: int | None = None
    request: str | None = None


class Values(NamedTuple):
    """One number a token: what was true and what was predicted, both of length n."""

    truth: tuple[float, ...]
    predicted: tuple[float, ...]
    source: str
    decile: int | None = None


class Number(NamedTuple):
    """One measured number."""

    value: float
    source: str
    decile: int | None = None


class Failure(NamedTuple):
    """An item that got no usable answer: counted, never dropped and never guessed."""

    reason: str
    source: str
    decile: int | None = None


Outcome = Label | Choice | Values | Number | Failure


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0

    @classmethod
    def of(cls, interval: Interval, n: int) -> Metric:
        """The estimate and limits of an interval, from ``n`` items."""
        return cls(interval.value, interval.low, interval.high, n)


@dataclass(frozen=True)
class Score:
    """How an explanation did with one scorer. ``metrics[headline]`` is the one to quote."""

    latent: LatentId
    explanation: str | None  # Explanation.id
    scorer: str
    judge: str
    headline: str
    chance: float
    metrics: Mapping[str, Metric]
    outcomes: Sequence[Outcome]
    status: Literal["scored", "failed", "too_few_examples"] = "scored"
    reason: str | None = None
    cost: Cost = Cost()
    details: Mapping[str, Any] = field(default_factory=dict)
