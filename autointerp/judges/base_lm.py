"""Language models that tell how likely a text is: what judges and scorers ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, cast

from pydantic import model_validator

from autointerp.llm.client import LLMClient
from autointerp.llm.echo import EchoLM
from autointerp.registry import Options


class BaseLM(Protocol):
    """Measures how likely texts are."""

    async def logprobs(self, continuations: Sequence[tuple[str, str]]) -> list[float | str]:
        """log p(text | before) in nats of each (before, text), or why there is none."""
        ...


class BaseLMOptions(Options):
    """Which model tells how likely texts are: the subject itself, unless one is named.

    ``model`` is a Hugging Face causal language model, a folder or a hub id. ``llm`` names one of
    the run's ``llms``, whose endpoint must know completions with ``echo`` and ``logprobs``.
    """

    model: str | None = None
    llm: str | None = None

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.model is not None and self.llm is not None:
            raise ValueError("give model or llm, not both")
        return self

    def needs(self) -> frozenset[str]:
        return frozenset({"templates", "base_lm" if self.llm is None else "client"})

    @property
    def echoes(self) -> bool:
        return self.llm is not None


def the_one(base_lm: BaseLM | None, client: LLMClient | None) -> BaseLM:
    """The base model that the options name: of the two, the one that is given.

    Where prompts are only rendered nothing is lent, and what needs no client is never asked.
    """
    return cast(BaseLM, base_lm) if client is None else EchoLM(client)
