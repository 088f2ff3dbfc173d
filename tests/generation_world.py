"""The planted store with its subject to measure on: what tests of generation share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llm_asking import run
from llm_server import LLMServer
from planted import PlantedLatent
from planted_coders import SAELENS, Planted
from planted_others import PlantedStore, build

from autointerp.latents import Score
from autointerp.llm.templates import Templates
from autointerp.scorers.generation import GenerationOptions, GenerationScorer
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject
from autointerp.subject.probing import ProbeError, ProbeQueue

T = TypeVar("T")


@dataclass(frozen=True)
class GenerationWorld:
    """The planted store, and the subject to measure on."""

    planted: PlantedStore
    subject: Subject

    @classmethod
    def of(cls, planted: Planted, folder: Path) -> GenerationWorld:
        subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
        return cls(build(planted, folder), subject)

    def measuring(self, work: Callable[[ProbeQueue], Awaitable[T]]) -> T:
        async def opened() -> T:
            hook = self.subject.hook_point("transformer.h.0")
            async with ProbeQueue(self.subject, {SAELENS: (self.planted.coder, hook)}) as queue:
                return await work(queue)

        return asyncio.run(opened())

    def by_pattern(self, queue: ProbeQueue, seed: int = 0, **options: Any) -> GenerationScorer:
        return GenerationScorer(
            GenerationOptions(**options),
            seed,
            probes=queue,
            refused=ProbeError,
            encode=self.subject.encode_text,
        )

    def scores(
        self, asked: Sequence[tuple[PlantedLatent, str]], seed: int = 0, **options: Any
    ) -> list[Score]:
        """Of pairs of a latent and a pattern."""

        async def work(queue: ProbeQueue) -> list[Score]:
            scorer = self.by_pattern(queue, seed, **options)
            explanations = [self.planted.explanation(latent, text) for latent, text in asked]
            shown = [self.planted.materials(latent) for latent, _ in asked]
            return list(await asyncio.gather(*map(scorer.score, explanations, shown)))

        return self.measuring(work)

    def written(self, latent: PlantedLatent, folder: Path, answer: Any, **options: Any) -> Score:
        """By a model that gives this answer."""

        async def work(llms: Any) -> Score:
            hook = self.subject.hook_point("transformer.h.0")
            async with ProbeQueue(self.subject, {SAELENS: (self.planted.coder, hook)}) as queue:
                scorer = GenerationScorer(
                    GenerationOptions(by="llm", **options),
                    probes=queue,
                    refused=ProbeError,
                    client=llms.clients["judge"],
                    templates=Templates(),
                )
                explanation = self.planted.explanation(latent, latent.explanation)
                return await scorer.score(explanation, self.planted.materials(latent))

        with LLMServer(answer) as server:
            return run(server, folder, work)
