"""A language model as judge: several windows a prompt, a 0 or 1 for each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, Field, create_model

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.logprobs import TOP, yes_probabilities
from autointerp.judges.windows import shown
from autointerp.latents import Example, LatentId
from autointerp.llm.client import LLMClient, LLMFailure, Reply
from autointerp.llm.templates import Templates, ask
from autointerp.registry import Options, judges

_log = logging.getLogger(__name__)


class LLMJudgeOptions(Options):
    """``llm`` names the model among the run's ``llms``.

    ``few_shot`` shows three worked questions first. ``logprobs`` asks for the probabilities of
    the answers; an endpoint that has none is asked without.
    """

    llm: str = "judge"
    texts_per_prompt: int = Field(default=5, ge=1)
    few_shot: bool = True
    logprobs: bool = True
    max_tokens: int = Field(default=512, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"client", "templates"})


class Labels(BaseModel):
    """A reply: 1 or 0 for every text, in order."""

    labels: list[Literal[0, 1]]


@cache
def _labels_of(count: int) -> type[Labels]:
    """The reply to ``count`` texts: any other number of labels is refused."""
    exactly = Annotated[list[Literal[0, 1]], Field(min_length=count, max_length=count)]
    return create_model("Labels", __base__=Labels, labels=(exactly, ...))


@judges.register("llm", LLMJudgeOptions)
class LLMJudge:
    """Asks whether each window is one that the explanation describes.

    Windows are asked about in the order given. A prompt without a usable reply, after its
    repair, gives ``NoVerdict`` for its windows alone.
    """

    name = "llm"

    def __init__(
        self,
        options: LLMJudgeOptions | None = None,
        seed: int = 0,
        *,
        client: LLMClient,
        templates: Templates,
    ) -> None:
        self.options = options or LLMJudgeOptions()
        self._client = client
        self._templates = templates
        self._logprobs = self.options.logprobs

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """One answer an example, from its tokens and those before it.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        size = self.options.texts_per_prompt
        parts = [examples[i : i + size] for i in range(0, len(examples), size)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(explanation, p, latent)) for p in parts]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [verdict for task in tasks for verdict in task.result()]

    async def _ask(
        self, explanation: str, examples: Sequence[Example], latent: LatentId
    ) -> Sequence[Verdict | NoVerdict]:
        try:
            labels, reply = await self._labels(explanation, examples, latent)
        except LLMFailure as failure:
            return [NoVerdict(failure.reason)] * len(examples)
        found = zip(labels, yes_probabilities(reply, labels), strict=True)
        return [Verdict(bool(label), yes, reply.key) for label, yes in found]

    async def _labels(
        self, explanation: str, examples: Sequence[Example], latent: LatentId
    ) -> tuple[Sequence[int], Reply]:
        if self._logprobs:
            try:
                return await self._request(explanation, examples, latent, TOP)
            except LLMFailure as failure:
                # After an answer it is the model that failed, and the words may be its own.
                if failure.answers or "logprobs" not in failure.reason:
                    raise
                self._remember_none(failure.reason)
        return await self._request(explanation, examples, latent, 0)

    def _remember_none(self, reason: str) -> None:
        if self._logprobs:
            self._logprobs = False
            _log.warning("%s; from now on labels are asked for without probabilities", reason)

    async def _request(
        self, explanation: str, examples: Sequence[Example], latent: LatentId, top: int
    ) -> tuple[Sequence[int], Reply]:
        labels, reply = await ask(
            self._client,
            self._templates,
            "judge/detection",
            _labels_of(len(examples)),
            {
                "explanation": explanation,
                "texts": shown(examples),
                "few_shot": self.options.few_shot,
            },
            max_tokens=self.options.max_tokens,
            top_logprobs=top,
            purpose="judge.detection",
            latent=str(latent),
        )
        return labels.labels, reply
