"""Pattern roles on the planted subject: real texts through a real model, truth known."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from planted import PlantedLatent, Truth, write_document
from planted_coders import SAELENS, Planted

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.store import ExampleStore
from autointerp.explainers.agent import AgentExplainer, AgentOptions
from autointerp.explainers.agent.measuring import Measure
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.patterns import matches, parse
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject

CONTEXT = 97
FAMILIES = ("token_set", "single", "previous", "earlier", "either_or", "unless")
HELD_OUT, HELD_OUT_WORDS = 200, 40


@dataclass(frozen=True)
class Measurement:
    tokens: list[str]
    activations: NDArray[np.float32]


class OneByOne:
    """Measures texts one at a time on the real subject."""

    def __init__(self, subject: Subject, attached: Attached) -> None:
        self.subject, self.attached = subject, attached
        self.seconds = 0.0

    async def measure(self, texts: Sequence[str], latent: LatentId) -> list[Measurement]:
        started = time.thread_time()
        found = [self._one(text, latent) for text in texts]
        self.seconds += time.thread_time() - started
        return found

    def _one(self, text: str, latent: LatentId) -> Measurement:
        ids = self.subject.encode_text(text)
        batch = next(iter(self.subject.activations([ids], [self.attached.hook])))
        encoded = self.attached.coder.encode(batch.states[self.attached.hook][0])
        values = encoded[:, latent.index].float().numpy()
        return Measurement([self.subject.vocabulary[i] for i in ids], values)


@dataclass(frozen=True)
class Shuffled:
    """Answers for another latent than was asked about."""

    probes: OneByOne
    other: dict[int, int]

    async def measure(self, texts: Sequence[str], latent: LatentId) -> list[Measurement]:
        return await self.probes.measure(texts, LatentId(latent.coder, self.other[latent.index]))


@dataclass(frozen=True)
class World:
    truth: Truth
    store: ExampleStore
    subject: Subject
    probes: OneByOne
    held_out: list[list[str]]

    def explain(self, latent: PlantedLatent, probes: Measure | None = None) -> Explanation:
        explainer = AgentExplainer(
            AgentOptions(), probes=probes or self.probes, refused=AutointerpError,
            encode=self.subject.encode_text, judge=PatternJudge(),
        )  # fmt: skip
        where = LatentId(SAELENS, latent.index)
        shown = evidence(self.store, where)
        chosen_on = labelled_set(self.store, where, "select", shown)
        return asyncio.run(explainer.explain(shown, chosen_on))

    def agreement(self, latent: PlantedLatent, text: str) -> float:
        """Share of held-out texts of which the text says what the rule says."""
        pattern = parse(text)
        said = [any(matches(pattern, words)) for words in self.held_out]
        true = [any(self.truth.fires(latent.index, words)) for words in self.held_out]
        return float(np.mean(np.equal(said, true)))


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> World:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=CONTEXT)
    hook = subject.hook_point("transformer.h.0")
    attached = Attached(load_coder(planted.files.coders[SAELENS]), hook, None)
    corpus = CorpusOptions(source=str(planted.corpus), tokens=10**9)
    directory = tmp_path_factory.mktemp("store")
    store = collect(subject, {SAELENS: attached}, corpus, ExampleOptions(), directory)
    latents = [LatentId(SAELENS, latent.index) for latent in planted.truth.latents]
    prepare(store, subject, {SAELENS: (attached.coder, hook)}, latents)
    held_out = [
        write_document(random.Random(f"held out {i}")).split()[:HELD_OUT_WORDS]
        for i in range(HELD_OUT)
    ]
    return World(planted.truth, store, subject, OneByOne(subject, attached), held_out)


def _confirmed(explanation: Explanation) -> bool:
    return any(h["state"] == "confirmed" for h in explanation.details["hypotheses"])


def _agreeing(world: World, latents: Sequence[PlantedLatent]) -> float:
    """Share of the latents whose explanation agrees with the rule; prints the figures."""
    started, measuring = time.thread_time(), world.probes.seconds
    found = [world.explain(latent) for latent in latents]
    spent = time.thread_time() - started - (world.probes.seconds - measuring)
    agreements = [
        world.agreement(latent, explanation.text or "nothing")
        for latent, explanation in zip(latents, found, strict=True)
    ]
    agreeing = float(np.mean(np.array(agreements) >= 0.95))
    confirmed = [_confirmed(explanation) for explanation in found]
    for latent, explanation, value in zip(latents, found, agreements, strict=True):
        if value < 0.95:
            print(f"{latent.index} {latent.pattern}: {value:.3f} {explanation.text}")
    print(
        f"pattern roles: {agreeing:.3f} of {len(latents)} planted latents agree with the rule,"
        f" {np.mean(confirmed):.3f} confirmed, {spent / len(latents):.3f} s of CPU a latent"
    )
    return agreeing


def test_pattern_roles_find_planted_rules(world: World) -> None:
    latents = [latent for name in FAMILIES for latent in world.truth.family(name)[:2]]
    assert _agreeing(world, latents) >= 0.8


@pytest.mark.slow
def test_pattern_roles_find_all_planted_rules(world: World) -> None:
    assert _agreeing(world, world.truth.family(*FAMILIES)) >= 0.8


@pytest.mark.slow
def test_measurements_shuffled_between_latents_confirm_nothing(world: World) -> None:
    latents = world.truth.family(*FAMILIES)
    indices = [latent.index for latent in latents]
    other = dict(zip(indices, [*indices[17:], *indices[:17]], strict=True))
    found = [world.explain(latent, Shuffled(world.probes, other)) for latent in latents]
    confirmed = [_confirmed(explanation) for explanation in found]
    print(f"confirmed on another latent's measurements: {np.mean(confirmed):.3f}")
    assert np.mean(confirmed) <= 0.05


def test_latents_without_text_are_named(world: World) -> None:
    for latent in world.truth.family("dead"):
        assert world.explain(latent).status == "dead"
    for latent in world.truth.family("rare"):
        assert world.explain(latent).status == "too_few_examples"


def test_the_probes_confirm_the_exclusion(world: World) -> None:
    latent = world.truth.family("unless")[0]
    explanation = world.explain(latent)
    assert explanation.text == latent.pattern
    assert explanation.details["exclusions"]
    kinds = {probe["kind"] for probe in explanation.details["probes"]}
    assert {"positive", "minimal_pair", "boundary", "hard_negative"} <= kinds
