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
from autointerp.pipeline.rows import TRUE
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


def judge_error(results: Results, scorer: str) -> dict[str, Any] | None:
    """How often two answers to one question differ, over the items asked about twice.

    ``error`` is the rate at which single answers would have to err, at random, to differ as often.
    """
    again = [s.score for s in results.scores(scorer) if s.control == REPEAT]
    pairs: list[bool] = []
    for latent in sorted({score.latent for score in again}):
        found = {s.control: s.score for s in results.scores(scorer, latent, outcomes=True)}
        if TRUE in found and len(found[TRUE].outcomes) == len(found[REPEAT].outcomes):
            both = zip(found[TRUE].outcomes, found[REPEAT].outcomes, strict=True)
            pairs += [d for d in (_differ(x, y) for x, y in both) if d is not None]
    if not pairs:
        return None
    differ = sum(pairs) / len(pairs)
    error = (1 - sqrt(max(0.0, 1 - 2 * differ))) / 2
    return {"n": len(pairs), "differ": differ, "error": error}


def _differ(first: Outcome, second: Outcome) -> bool | None:
    """None where one of them is no usable answer."""
    if isinstance(first, Label) and isinstance(second, Label):
        return first.label != second.label
    if isinstance(first, Choice) and isinstance(second, Choice):
        return first.chosen != second.chosen
    return None
