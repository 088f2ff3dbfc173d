"""A language model as judge: several windows a prompt, a 0 or 1 for each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, Field, create_model

from autointerp.judges import Marks, NoVerdict, Pick, Verdict
from autointerp.judges.choosing import choose
from autointerp.judges.logprobs import TOP, Logprobs, yes_probabilities
from autointerp.judges.pairs import TextPair, ask_pairs
from autointerp.judges.windows import alone, marked, shown
from autointerp.latents import Example, LatentId
from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient, LLMFailure, Reply
from autointerp.llm.templates import Templates, ask
from autointerp.registry import Options, judges

Question = Literal["detection", "detection_alone", "fuzzing", "fuzzing_alone"]  # a template
Texts = Sequence[dict[str, str]]  # windows, as a template shows them


class LLMJudgeOptions(Options):
    """``llm`` names the model among the run's ``llms``.

    ``few_shot`` shows three worked questions first. ``logprobs`` asks for the probabilities of
    the answers; an endpoint that has none is asked without. ``repeats`` is of how many latents
    all questions are asked a second time, to see how often the answers differ.
    """

    llm: str = "judge"
    texts_per_prompt: int = Field(default=5, ge=1)
    few_shot: bool = True
    logprobs: bool = True
    max_tokens: int = Field(default=512, ge=1)
    repeats: int = Field(default=0, ge=0)

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
    """Asks whether each window, or its marked tokens, are what the explanation describes.

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
        self._logprobs = Logprobs(self.options.logprobs, TOP)

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """One answer an example, from its tokens and those before it.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        question: Question = "detection_alone" if alone(examples) else "detection"
        return await self._answers(question, explanation, shown(examples))

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        """One answer an example, about its marked tokens. Raises as :meth:`detect`."""
        question: Question = "fuzzing_alone" if alone(examples) else "fuzzing"
        return await self._answers(question, explanation, marked(examples, marks))

    async def choose(
        self, explanations: Sequence[str], examples: Sequence[Example], *, latent: LatentId
    ) -> list[Pick | NoVerdict]:
        """One choice an example, several of them in one request. Raises as :meth:`detect`."""
        return await choose(
            self._client, self._templates, explanations, examples,
            size=self.options.texts_per_prompt, few_shot=self.options.few_shot,
            max_tokens=self.options.max_tokens,
        )  # fmt: skip

    async def prefer(self, explanation: str, pairs: Sequence[TextPair]) -> list[int | NoVerdict]:
        """One answer a pair: 0 or 1, which continuation fits the explanation better.

        Raises as :meth:`detect`.
        """
        return await ask_pairs(
            self._client, self._templates, explanation, pairs,
            size=self.options.texts_per_prompt, few_shot=self.options.few_shot,
            max_tokens=self.options.max_tokens,
        )  # fmt: skip

    async def _answers(
        self, question: Question, explanation: str, texts: Texts
    ) -> list[Verdict | NoVerdict]:
        size = self.options.texts_per_prompt
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        found = await at_once(self._ask(question, explanation, part) for part in parts)
        return [verdict for of_part in found for verdict in of_part]

    async def _ask(
        self, question: Question, explanation: str, texts: Texts
    ) -> Sequence[Verdict | NoVerdict]:
        try:
            labels, reply = await self._logprobs.ask(
                lambda top: self._request(question, explanation, texts, top)
            )
        except LLMFailure as failure:
            return [NoVerdict(failure.reason)] * len(texts)
        found = zip(labels, yes_probabilities(reply, labels), strict=True)
        return [Verdict(bool(label), yes, reply.key) for label, yes in found]

    async def _request(
        self, question: Question, explanation: str, texts: Texts, top: int
    ) -> tuple[Sequence[int], Reply]:
        labels, reply = await ask(
            self._client,
            self._templates,
            f"judge/{question}",
            _labels_of(len(texts)),
            {"explanation": explanation, "texts": texts, "few_shot": self.options.few_shot},
            max_tokens=self.options.max_tokens,
            top_logprobs=top,
            purpose=f"judge.{question.removesuffix('_alone')}",
        )
        return labels.labels, reply
