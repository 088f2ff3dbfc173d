"""The planted subject, ready to be steered: what tests of effects and their scorers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from given_sets import with_test
from planted import PlantedLatent
from planted_coders import SAELENS, Planted

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.prefixes import Prefixes
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.store import ExampleStore
from autointerp.explainers.effects import EffectsExplainer, EffectsOptions
from autointerp.latents import Explanation, LabelledSet, LatentId
from autointerp.scorers import Materials
from autointerp.subject.activation_functions import TopK
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject
from autointerp.subject.steering import Steering

APART = 20  # so many latents before one comes its opposite in a signed coder

T = TypeVar("T")


@dataclass(frozen=True)
class SteeredWorld:
    """A collected store of the planted subject."""

    planted: Planted
    subject: Subject
    attached: dict[str, Attached]
    store: ExampleStore
    prefixes: Prefixes

    def latents(self, count: int) -> list[PlantedLatent]:
        """Some that promote known tokens, of several families."""
        families = ("token_set", "single", "previous", "either_or", "unless", "earlier")
        live = self.planted.truth.family(*families)  # type: ignore[arg-type]
        return live[:: max(1, len(live) // count)][:count]

    def run(self, work: Callable[[EffectsExplainer], Awaitable[T]], **options: object) -> T:
        """Do ``work`` with an explainer of effects whose steering is open."""

        async def opened() -> T:
            texts = self.prefixes.rows(128)
            async with Steering(self.subject, self.attached, texts=texts) as steering:
                chosen = EffectsOptions(**options)  # type: ignore[arg-type]
                return await work(
                    EffectsExplainer(chosen, steering=steering, prefixes=self.prefixes)
                )

        return asyncio.run(opened())

    def explain(self, effects: EffectsExplainer, latent: LatentId) -> Awaitable[Explanation]:
        shown = evidence(self.store, latent)
        return effects.explain(shown, LabelledSet(latent, "select", [], {}, None, 0))

    def materials(self, latent: LatentId, peers: Sequence[Explanation] = ()) -> Materials:
        shown = evidence(self.store, latent)
        test = labelled_set(self.store, latent, "test", shown)
        return with_test(latent, test, evidence=shown, peers=peers)


def where(latent: PlantedLatent) -> LatentId:
    return LatentId(SAELENS, latent.index)


def build(planted: Planted, folder: Path, tokens: int = 60_000) -> SteeredWorld:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    coder = load_coder(planted.files.coders[SAELENS])
    attached = {SAELENS: Attached(coder, subject.hook_point("h.0"), None)}
    corpus = CorpusOptions(source=str(planted.corpus), tokens=tokens)
    store = collect(subject, attached, corpus, ExampleOptions(), folder)
    latents = [where(latent) for latent in planted.truth.latents]
    prepare(store, subject, {SAELENS: (coder, attached[SAELENS].hook)}, latents)
    return SteeredWorld(planted, subject, attached, store, Prefixes(store))


def signed(world: SteeredWorld) -> SteeredWorld:
    """The same with a coder whose activations may be negative: steered the other way, a latent
    causes what its opposite does."""
    coder, hook, _ = world.attached[SAELENS]
    two_sided = replace(
        coder,
        W_dec=coder.W_dec - coder.W_dec.roll(APART, 0),
        activation=TopK(12, by="magnitude", rectify=False),
    )
    return replace(world, attached={SAELENS: Attached(two_sided, hook, None)})


def opposite(world: SteeredWorld, latent: PlantedLatent) -> PlantedLatent:
    """The latent whose decoder row a signed coder takes off this one's."""
    return world.planted.truth.latents[latent.index - APART]
