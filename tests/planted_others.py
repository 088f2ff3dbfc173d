"""The planted subject's store with true explanations of its latents, and a model in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from planted import PlantedLatent, Truth
from planted_coders import SAELENS, Planted

from autointerp.examples.active import active_windows
from autointerp.examples.activity import Active, Question, activity
from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import evidence, labelled_set
from autointerp.examples.store import ExampleStore
from autointerp.latents import Explanation, LatentId, Score
from autointerp.llm.client import LLMFailure, Reply, Request, Usage
from autointerp.pipeline.others import OtherLatents
from autointerp.scorers import Materials
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject

FAMILIES = ("token_set", "single", "previous", "earlier", "either_or", "unless")


@dataclass(frozen=True)
class PlantedStore:
    """Examples of the planted subject's first coder, and what is true of its latents."""

    truth: Truth
    store: ExampleStore
    coder: SparseCoder
    subject: Subject
    attached: Mapping[str, Attached]
    asked: list[Question] = field(default_factory=list)

    @property
    def latents(self) -> list[PlantedLatent]:
        """Those that fire on more than chance words, and often enough to be scored."""
        return [latent for latent in self.truth.latents if latent.family in FAMILIES]

    def explanation(self, latent: PlantedLatent, text: str | None = None) -> Explanation:
        """The latent's own pattern, or ``text`` in its place."""
        return Explanation(LatentId(SAELENS, latent.index), text or latent.pattern, "truth")

    def others(self, seed: int = 0) -> OtherLatents:
        made = map(self.explanation, self.latents)
        explanations = {e.latent: e for e in made}
        return OtherLatents(self.store, lambda: {SAELENS: self.coder}, explanations, self, seed)

    async def active(self, question: Question) -> Active:
        """In this thread, and noted."""
        self.asked.append(question)
        return activity(self.store, self.subject, self.attached, [question])[0]

    def materials(self, latent: PlantedLatent) -> Materials:
        where = LatentId(SAELENS, latent.index)
        shown = evidence(self.store, where)
        return Materials(
            where,
            cache(partial(labelled_set, self.store, where, "test", shown)),
            shown,
            self.store.background("test"),
            self.store.background_maxima(where, "test"),
            partial(active_windows, self.store, where, "test"),
        )


def build(planted: Planted, folder: Path) -> PlantedStore:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    coder = load_coder(planted.files.coders[SAELENS])
    attached = {SAELENS: Attached(coder, subject.hook_point("transformer.h.0"))}
    corpus = CorpusOptions(source=str(planted.corpus), tokens=60_000)
    store = collect(subject, attached, corpus, ExampleOptions(), folder)
    return PlantedStore(planted.truth, store, coder, subject, attached)


def values(score: Score) -> dict[str, float]:
    """The metrics' values, without intervals."""
    return {name: metric.value for name, metric in score.metrics.items()}


@dataclass
class FakeClient:
    """Answers by ``answer``, a function of the request that returns the reply's JSON value, or
    None for a request that fails."""

    answer: Callable[[Request], Any]
    model: str = "fake"
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        data = self.answer(request)
        if data is None:
            raise LLMFailure("no usable reply")
        key = f"{len(self.requests):040x}"[::-1]
        return Reply("", data, None, Usage(), journaled=False, key=key)
