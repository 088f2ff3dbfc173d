"""Which of two continuations fits an explanation of what a latent causes.

A judge that reads text has ``prefer``. Of one that reads tokens, and has ``promoted``, the question
is answered by how much likelier those tokens became; of one that has ``likelihoods``, by which
continuation makes the explanation likelier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, create_model

from autointerp.judges import NoVerdict
from autointerp.judges.windows import quoted
from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient, LLMFailure
from autointerp.llm.templates import Templates, ask


@dataclass(frozen=True)
class TextPair:
    """Two continuations of one text, in the order in which they are shown."""

    before: str
    first: str
    second: str

    @property
    def turned(self) -> TextPair:
        return TextPair(self.before, self.second, self.first)


@runtime_checkable
class PairJudge(Protocol):
    """A judge that reads continuations."""

    async def prefer(self, explanation: str, pairs: Sequence[TextPair]) -> list[int | NoVerdict]:
        """0 or 1 for each pair: which continuation fits the explanation better."""
        ...


@runtime_checkable
class TokenJudge(Protocol):
    """A judge that reads an explanation as a set of tokens."""

    def promoted(self, explanation: str, vocabulary: Sequence[str]) -> NDArray[np.bool_]:
        """[vocabulary] whether the explanation names each token.

        Raises:
            AutointerpError: if the judge cannot read the explanation.
        """
        ...


@runtime_checkable
class LikelihoodJudge(Protocol):
    """A judge that tells how likely explanations are after texts."""

    async def likelihoods(
        self, explanations: Sequence[str], texts: Sequence[str]
    ) -> list[list[float | str]]:
        """log p(explanation | text) in nats, for each text of each explanation, or why there is
        none."""
        ...


class Preferences(BaseModel):
    """A reply: A or B for every pair, in order."""

    choices: list[Literal["A", "B"]]


@cache
def _preferences_of(count: int) -> type[Preferences]:
    exactly = Annotated[list[Literal["A", "B"]], Field(min_length=count, max_length=count)]
    return create_model("Preferences", __base__=Preferences, choices=(exactly, ...))


async def ask_pairs(
    client: LLMClient,
    templates: Templates,
    explanation: str,
    pairs: Sequence[TextPair],
    *,
    size: int,
    few_shot: bool,
    max_tokens: int,
) -> list[int | NoVerdict]:
    """Ask a language model, ``size`` pairs a prompt; a prompt without a usable reply, after its
    repair, gives ``NoVerdict`` for its pairs alone.

    Raises:
        BudgetExhausted: if a budget is spent.
        AutointerpError: if the endpoint refuses every request.
    """

    async def answer(part: Sequence[TextPair]) -> Sequence[int | NoVerdict]:
        try:
            reply, _ = await ask(
                client,
                templates,
                "judge/intervention",
                _preferences_of(len(part)),
                {"explanation": explanation, "pairs": _shown(part), "few_shot": few_shot},
                max_tokens=max_tokens,
                purpose="judge.intervention",
            )
        except LLMFailure as failure:
            return [NoVerdict(failure.reason)] * len(part)
        return ["AB".index(choice) for choice in reply.choices]

    parts = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    found = await at_once(answer(part) for part in parts)
    return [choice for of_part in found for choice in of_part]


def _shown(pairs: Sequence[TextPair]) -> list[dict[str, str]]:
    return [
        {"before": quoted(p.before), "a": quoted(p.first), "b": quoted(p.second)} for p in pairs
    ]
