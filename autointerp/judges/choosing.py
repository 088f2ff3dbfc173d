"""A language model chooses, for each of several windows, the explanation that fits it best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from autointerp.judges import NoVerdict, Pick
from autointerp.judges.windows import shown
from autointerp.latents import Example
from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient, LLMFailure
from autointerp.llm.templates import Templates, ask


class Choices(BaseModel):
    """A reply: the number of an explanation, from 1, for every text, in order."""

    choices: list[int]


@cache
def _choices_of(texts: int, explanations: int) -> type[Choices]:
    """The reply to so many texts and explanations: any other length or number is refused."""
    number = Annotated[int, Field(ge=1, le=explanations)]
    exactly: Any = Annotated[list[number], Field(min_length=texts, max_length=texts)]
    return create_model("Choices", __base__=Choices, choices=(exactly, ...))


async def choose(
    client: LLMClient,
    templates: Templates,
    explanations: Sequence[str],
    examples: Sequence[Example],
    *,
    size: int,
    few_shot: bool,
    max_tokens: int,
) -> list[Pick | NoVerdict]:
    """One request for every ``size`` windows; without a usable reply, ``NoVerdict`` for them.

    Raises:
        BudgetExhausted: if a budget is spent.
        AutointerpError: if the endpoint refuses every request.
    """

    async def one(part: Sequence[Example]) -> Sequence[Pick | NoVerdict]:
        try:
            found, reply = await ask(
                client,
                templates,
                "judge/discrimination",
                _choices_of(len(part), len(explanations)),
                {"explanations": explanations, "texts": shown(part), "few_shot": few_shot},
                max_tokens=max_tokens,
                purpose="judge.discrimination",
            )
        except LLMFailure as failure:
            return [NoVerdict(failure.reason)] * len(part)
        return [Pick(number - 1, reply.key) for number in found.choices]

    parts = [examples[i : i + size] for i in range(0, len(examples), size)]
    found = await at_once(one(part) for part in parts)
    return [pick for of_part in found for pick in of_part]
