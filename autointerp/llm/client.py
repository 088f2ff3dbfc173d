"""What is asked of a language model and what comes back: requests, replies, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]


class LLMFailure(Exception):
    """A request got no usable answer, after its retries and one repair. Tells why in one line.

    ``usage`` is what the unusable answers cost, ``answers`` how many they were.
    """

    def __init__(self, reason: str, usage: Usage | None = None, answers: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.usage = usage or Usage()
        self.answers = answers


class BudgetExhausted(Exception):
    """A budget is spent, or nobody is there to answer: nothing more is asked, and the run stops so
    that it can be resumed."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Request:
    """One question to a language model.

    ``schema`` is the JSON schema of the wanted reply; ``check`` may refuse, by ``ValueError``, a
    reply that fits the schema but not the question, and its words are shown in the repair round.
    ``repeat`` tells deliberate repeats of one question apart. ``purpose`` (such as
    ``agent.propose``) says what it is asked for; like ``check`` it does not shape the answer, and
    the journal's key leaves both out.

    With ``echo`` nothing is answered: the one message is a text that goes to the endpoint's plain
    completions, and the reply has the log probability of each of its tokens.
    """

    messages: Sequence[Message]
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    top_logprobs: int = 0
    repeat: int = 0
    echo: bool = False
    purpose: str = field(default="", compare=False)
    check: Callable[[Any], object] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class TokenLogprob:
    """A token of a reply, its log probability (nats), and the likeliest tokens in its place.

    The first token of an echoed text, which nothing predicts, has 0.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Usage:
    """What a reply cost; ``cached_tokens`` are among the ``prompt_tokens``."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.completion_tokens + other.completion_tokens,
            self.dollars + other.dollars,
        )


@dataclass(frozen=True)
class Reply:
    """The usable answer to a request.

    ``data`` is the parsed JSON, validated, if the request had a schema. ``usage`` is what the
    answer cost when it was asked for, repair round included; ``journaled`` says that nothing was
    paid for it now. ``key`` is its key in the journal. ``answers`` is 2 after a repair round.
    """

    text: str
    data: Any
    logprobs: tuple[TokenLogprob, ...] | None
    usage: Usage
    journaled: bool
    key: str
    answers: int = 1


class LLMClient(Protocol):
    """Answers requests to one model."""

    @property
    def model(self) -> str: ...

    async def complete(self, request: Request) -> Reply:
        """Answer ``request``.

        Raises:
            LLMFailure: if there is no usable answer; the others go on.
            BudgetExhausted: if a budget is spent, or no connection can be made; the run stops, to
                be resumed.
            AutointerpError: if the endpoint refuses every request (its key, its model).
        """
        ...
