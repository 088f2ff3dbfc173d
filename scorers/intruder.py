"""Intruder: which of five windows is not the latent's? Measures the latent, not a text about it.

Four windows of one decile, and one in which another latent of the run is active and this one is
not; in each, the same number of tokens is marked: those on which its own latent is most active. A
latent whose windows have nothing in common that a reader can see scores chance, and no explanation
will do better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from ..judges import Marks
from ..judges.windows import END, MARK, marked
from ..latents import Choice, Example, ExampleBlock, Explanation, Failure, Score
from ..llm.at_once import at_once
from ..llm.client import LLMClient, LLMFailure
from ..llm.templates import Templates, ask
from ..registry import Options, scorers
from ..statistics import derived_generator
from . import Materials, Others
from .choices import Answer, choice_metrics, choice_score, request_name

OWN = 4
DECILES = 10
INTRUDERS = 8  # other latents that lend windows
FEWEST = 5  # questions
MARKED = 0.3  # share of a window's maximum from which a token may be marked


class IntruderOptions(Options):
    """``llm`` names the model among the run's ``llms``; ``questions`` is the most a latent gets.

    Each question is one request. Only a language model can answer.
    """

    llm: str = "judge"
    questions: int = Field(default=20, ge=FEWEST)
    max_tokens: int = Field(default=256, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"client", "templates", "others"})


class Intruder(BaseModel):
    """A reply: the number of one text, from 1."""

    intruder: int = Field(ge=1, le=OWN + 1)


@dataclass(frozen=True)
class Question:
    """Five windows, which of them is the intruder, and the decile of the other four."""

    windows: Sequence[Example]
    truth: int
    decile: int


@scorers.register("intruder", IntruderOptions)
class IntruderScorer:
    """Asks for the intruder among five windows; headline: accuracy, chance 20 %."""

    reads: Literal["input", "output"] | None = None

    def __init__(
        self,
        options: IntruderOptions | None = None,
        seed: int = 0,
        *,
        client: LLMClient,
        templates: Templates,
        others: Others,
    ) -> None:
        self.options = options or IntruderOptions()
        self._seed = seed
        self._client = client
        self._templates = templates
        self._others = others

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """The explanation's text is not read.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        questions = await self._questions(materials)
        answers: list[Answer] = []
        reason = materials.test.shortage
        if len(questions) >= FEWEST:
            answers = await at_once(map(self._ask, questions))
        elif reason is None:
            reason = f"windows for {len(questions)} questions, {FEWEST} are needed"
        return choice_score(
            answers,
            choice_metrics(answers) if answers else {},
            explanation,
            scorer="intruder",
            judge="llm",
            headline="accuracy",
            chance=1 / (OWN + 1),
            reason=reason if not answers else None,
        )

    async def _questions(self, materials: Materials) -> list[Question]:
        """One of each decile, then a second of each, and so on; no window of its twice."""
        if materials.active is None or materials.test.shortage is not None:
            return []
        rng = derived_generator(self._seed, materials.latent, "intruder")
        foreign = await self._foreign(materials, rng)
        own = _by_decile(materials.active(), rng)
        found: list[Question] = []
        while len(found) < min(self.options.questions, len(foreign)):
            rest = {decile: items for decile, items in own.items() if len(items) >= OWN}
            if not rest:
                break
            for decile in list(rest)[: min(self.options.questions, len(foreign)) - len(found)]:
                mine = [own[decile].pop() for _ in range(OWN)]
                truth = int(rng.integers(OWN + 1))
                mine.insert(truth, foreign[len(found)])
                found.append(Question(mine, truth, decile))
        return found

    async def _foreign(self, materials: Materials, rng: np.random.Generator) -> list[Example]:
        """Windows of other latents, from every one in turn."""
        lenders = await self._others.apart(materials.latent, INTRUDERS, self.options.questions)
        pools = [[o.windows[i].example for i in rng.permutation(len(o.windows))] for o in lenders]
        turns = range(max(map(len, pools), default=0))
        return [pool[turn] for turn in turns for pool in pools if turn < len(pool)]

    async def _ask(self, question: Question) -> Answer:
        texts = marked(question.windows, _marks(question.windows))
        try:
            found, reply = await ask(
                self._client,
                self._templates,
                "judge/intruder",
                Intruder,
                {"texts": texts, "opening": MARK, "closing": END},
                max_tokens=self.options.max_tokens,
                purpose="judge.intruder",
            )
        except LLMFailure as failure:
            return Failure(failure.reason, "activating", question.decile)
        chosen, request = found.intruder - 1, request_name(reply.key)
        return Choice(OWN + 1, question.truth, chosen, "activating", question.decile, request)


def _by_decile(block: ExampleBlock, rng: np.random.Generator) -> dict[int, list[Example]]:
    """The active windows of each tenth by maximum, weakest first, in random order; with few
    windows, of fewer groups.

    All that were kept: no explanation is judged, so it matters nothing which were shown to one.
    """
    examples = block.examples()
    groups = min(DECILES, max(1, len(examples) // OWN))
    tenths = np.array_split(np.argsort(block.maxima, kind="stable"), groups)
    return {
        decile: [examples[i] for i in rng.permutation(tenth)] for decile, tenth in enumerate(tenths)
    }


def _marks(windows: Sequence[Example]) -> list[Marks]:
    """Of each window as many of the strongest tokens as the one with the fewest has to mark."""
    count = min(int((e.activations >= MARKED * e.maximum).sum()) for e in windows)
    masks = [np.zeros(len(e.activations), bool) for e in windows]
    for mask, example in zip(masks, windows, strict=True):
        mask[np.argsort(-example.activations, kind="stable")[:count]] = True
    return masks
