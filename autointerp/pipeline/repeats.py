"""Questions that are asked a second time on purpose, to see how often a judge contradicts itself.

Without that a journal makes every judge look perfectly reliable: the same question has the same
answer, whoever asks it. What is asked again has a key of its own there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from autointerp.latents import Choice, Label, LatentId, Outcome
from autointerp.llm.client import LLMClient, Reply, Request
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored, counts_for
from autointerp.statistics import derived_generator

REPEAT = "repeat"  # the control column of what was asked again
PER_RUN = 1_000_000  # more than any question is asked in one run, retries included


@dataclass(frozen=True)
class AskingAgain:
    """Asks for another answer to every request, one that none of fewer ``times`` brought."""

    client: LLMClient
    times: int = 1

    @property
    def model(self) -> str:
        return self.client.model

    async def complete(self, request: Request) -> Reply:
        return await self.client.complete(replace(request, repeat=request.repeat + self.times))


def asking_again(clients: Mapping[str, LLMClient], times: int = 1) -> dict[str, LLMClient]:
    return {name: AskingAgain(client, times) for name, client in clients.items()}


def in_order(latents: Iterable[LatentId], most: int) -> list[LatentId]:
    """The first ``most`` in the order in which latents are chosen to be asked about again; more
    latents add to fewer."""
    draws = ((derived_generator(0, REPEAT, latent).random(), latent) for latent in latents)
    return [latent for _, latent in heapq.nsmallest(most, draws)]


def judge_error(results: Results, scorer: str, explainer: str) -> dict[str, Any] | None:
    """How often two answers to one question about an explanation of this explainer differ, over the
    items asked about twice.

    ``error`` is the rate at which single answers would have to err, at random, to differ as often.
    """
    again = {s.score.latent for s in results.scores(scorer) if s.control == REPEAT}
    found = [
        differs
        for latent in sorted(again)
        for differs in _twice(results.scores(scorer, latent, outcomes=True), explainer)
    ]
    if not found:
        return None
    differ = sum(found) / len(found)
    error = (1 - sqrt(max(0.0, 1 - 2 * differ))) / 2
    return {"n": len(found), "differ": differ, "error": error}


def _twice(scores: Iterable[Scored], explainer: str) -> list[bool]:
    """Whether the two answers differ, of every item of one latent that has two."""
    mine = (s for s in scores if counts_for(s.score.explanation, explainer))
    asked = {(s.control, s.score.explanation): s.score.outcomes for s in mine}
    both = [
        (outcomes, asked.get((REPEAT, explanation), ()))
        for (control, explanation), outcomes in asked.items()
        if control == TRUE
    ]
    found = [
        _differ(x, y)
        for first, second in both
        if len(first) == len(second)
        for x, y in zip(first, second, strict=True)
    ]
    return [differs for differs in found if differs is not None]


def _differ(first: Outcome, second: Outcome) -> bool | None:
    """None where one of them is no usable answer."""
    if isinstance(first, Label) and isinstance(second, Label):
        return first.label != second.label
    if isinstance(first, Choice) and isinstance(second, Choice):
        return first.chosen != second.chosen
    return None
