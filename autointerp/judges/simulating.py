"""Who predicts activations, token by token: a pattern's matches, or a language model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Protocol

from pydantic import BaseModel, Field, create_model

from autointerp.judges import NoVerdict
from autointerp.judges.logprobs import TOP_LEVELS, Logprobs, expected_levels
from autointerp.judges.pattern import stacked
from autointerp.judges.windows import quoted, separator
from autointerp.latents import Example
from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient, LLMFailure, Reply
from autointerp.llm.templates import Templates, ask
from autointerp.patterns import Lexicon, Windows, parse

Levels = list[float] | NoVerdict


class Simulator(Protocol):
    """Predicts the activation of every token of windows, in any unit."""

    async def levels(self, explanation: str, examples: Sequence[Example]) -> list[Levels]:
        """One level a token of each window; activations must not be looked at."""
        ...


class PatternSimulator:
    """1 where the pattern matches, else 0."""

    def __init__(self) -> None:
        self._lexicon = Lexicon([])

    async def levels(self, explanation: str, examples: Sequence[Example]) -> list[Levels]:
        """One level a token, from the tokens alone.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        vocabulary = examples[0].vocabulary
        if self._lexicon.vocabulary is not vocabulary:
            self._lexicon = Lexicon(vocabulary)
        found = Windows(self._lexicon, *stacked(examples)).matches(parse(explanation))
        return list(found.astype(float).tolist())


class Simulated(BaseModel):
    """A reply: a digit for every token, in order."""

    levels: list[int]


@cache
def _levels_of(count: int) -> type[Simulated]:
    """The reply to a window of ``count`` tokens: any other number of levels is refused."""
    digit = Annotated[int, Field(ge=0, le=9)]
    exactly = Annotated[list[digit], Field(min_length=count, max_length=count)]
    return create_model("Levels", __base__=Simulated, levels=(exactly, ...))


class LLMSimulator:
    """Asks for the levels 0 to 9 of all tokens of a window at once; a window a request.

    ``logprobs`` takes the mean of each over the probabilities of the digits in its place, where
    the endpoint tells them.
    """

    def __init__(
        self, client: LLMClient, templates: Templates, *, logprobs: bool, max_tokens: int
    ) -> None:
        self._client, self._templates = client, templates
        self._max_tokens = max_tokens
        self._logprobs = Logprobs(logprobs, TOP_LEVELS)

    async def levels(self, explanation: str, examples: Sequence[Example]) -> list[Levels]:
        """One level a token, or why a window has none.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        return await at_once(self._window(explanation, example) for example in examples)

    async def _window(self, explanation: str, example: Example) -> Levels:
        try:
            levels, reply = await self._logprobs.ask(
                lambda top: self._request(explanation, example, top)
            )
        except LLMFailure as failure:
            return NoVerdict(failure.reason)
        return expected_levels(reply, levels)

    async def _request(
        self, explanation: str, example: Example, top: int
    ) -> tuple[list[int], Reply]:
        before = separator(example.vocabulary).join(example.left_context)
        tokens = [quoted(token) for token in example.tokens]
        simulated, reply = await ask(
            self._client,
            self._templates,
            "judge/simulation",
            _levels_of(len(tokens)),
            {"explanation": explanation, "before": quoted(before), "tokens": tokens},
            max_tokens=self._max_tokens,
            top_logprobs=top,
            purpose="judge.simulation",
        )
        return simulated.levels, reply
