"""Collecting, sampling, explaining and scoring, checked against the planted truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from given_sets import with_test
from planted import Family, PlantedLatent, Truth
from planted_coders import SAELENS, TOPK, TRANSCODER, Planted, topk_order

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.store import ExampleStore
from autointerp.explainers.pattern import PatternExplainer
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import (
    SPLITS,
    AutointerpError,
    Example,
    Explanation,
    LabelledSet,
    LatentId,
    Score,
)
from autointerp.scorers.detection import DetectionScorer
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject

CONTEXT = 97  # BOS and three windows of 32
HOOKS = {SAELENS: "transformer.h.0", TOPK: "h.1.output", TRANSCODER: "h.0.mlp.input"}
SCORED: tuple[Family, ...] = (
    "token_set", "single", "previous", "earlier", "either_or", "unless",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """A collected store of the planted subject, and its truth."""

    truth: Truth
    store: ExampleStore
    subject: Subject
    fires: list[np.ndarray]  # by document: bool [tokens, latents], by the rules alone

    def sets(self, latent: PlantedLatent) -> LabelledSet:
        where = LatentId(SAELENS, latent.index)
        return labelled_set(self.store, where, "test", evidence(self.store, where))

    def truly_active(self, example: Example) -> np.ndarray:
        """By the rules, where the owner is active in the window; bool [window]."""
        window = slice(example.start, example.start + len(example.token_ids))
        return self.fires[example.document][window, example.owner.index]

    def examples(self, latent: LatentId) -> Iterator[Example]:
        shown = evidence(self.store, latent)
        yield from [*shown.top, *shown.sampled, *shown.token_matched]
        for split in ("select", "test"):
            yield from (i.example for i in labelled_set(self.store, latent, split, shown).items)


def _document_truth(truth: Truth, store: ExampleStore, document: int) -> np.ndarray:
    words = [store.vocabulary[i] for i in store.tokens(document)]
    rows = groupby(range(len(words)), key=lambda at: store.row_start(document, at))
    parts = []
    for _, positions in rows:
        row = [words[at] for at in positions]
        parts.append([truth.fires(latent.index, row) for latent in truth.latents])
    return np.concatenate([np.array(part).T for part in parts])


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> World:
    subject = load_subject(str(planted.files.model), device="cpu", context_length=CONTEXT)
    coders = {}
    for name, path in planted.files.coders.items():
        hook = subject.hook_point(HOOKS[name])
        target = subject.hook_point("h.0.mlp") if name == TRANSCODER else None
        coders[name] = Attached(load_coder(path), hook, target)
    directory = tmp_path_factory.mktemp("store")
    corpus = CorpusOptions(source=str(planted.corpus), tokens=10**9)
    store = collect(subject, coders, corpus, ExampleOptions(), directory)
    latents = [LatentId(SAELENS, latent.index) for latent in planted.truth.latents]
    prepare(store, subject, {name: (c.coder, c.hook) for name, c in coders.items()}, latents)
    count = len(store.document_split)
    fires = [_document_truth(planted.truth, store, document) for document in range(count)]
    return World(planted.truth, store, subject, fires)


def test_rows_are_whole_windows_of_the_context(world: World) -> None:
    for document in range(20):
        length = len(world.store.tokens(document))
        starts = sorted({world.store.row_start(document, at) for at in range(length)})
        assert starts[0] == 0
        assert all(b - a == CONTEXT - 1 for a, b in pairwise(starts[1:]))
        assert len(starts) == 1 or 64 <= starts[1] <= CONTEXT - 1


def test_all_text_is_read_once(world: World, planted: Planted) -> None:
    read = [
        " ".join(world.store.vocabulary[i] for i in world.store.tokens(document))
        for document in range(len(world.fires))
    ]
    assert read == planted.texts


@pytest.mark.parametrize("coder", [SAELENS, TOPK, TRANSCODER])
def test_statistics_equal_brute_force(world: World, coder: str) -> None:
    order = topk_order(world.truth) if coder == TOPK else list(range(len(world.truth.latents)))
    counts = world.store.statistics(coder)
    everything = np.concatenate(world.fires)
    assert counts.tokens == len(everything)
    assert np.asarray(counts.firing_count)[order].tolist() == everything.sum(0).tolist()
    record = world.store.coders[coder]
    assert record.alive == np.count_nonzero(everything.any(0))
    assert record.dead == record.width - record.alive
    assert record.l0 == pytest.approx(everything.sum() / len(everything))


def test_window_counts_equal_brute_force(world: World) -> None:
    expected = np.zeros((len(world.truth.latents), len(SPLITS)), np.int64)
    for document, fires in enumerate(world.fires):
        head = int(world.store.documents["head"][document])
        whole = (len(fires) - head) // 32
        windows = fires[head : head + 32 * whole].reshape(whole, 32, -1)
        expected[:, world.store.document_split[document]] += windows.any(1).sum(0)
    counted = np.asarray(world.store.statistics(SAELENS).window_count)
    assert counted.tolist() == expected.tolist()
    sparse = (expected.sum(1) < 10) & (expected.sum(1) > 0)
    assert world.store.coders[SAELENS].rare == np.count_nonzero(sparse)


def test_maxima_and_means_have_the_strength_of_the_rules(world: World) -> None:
    for latent in world.truth.family("token_set", "single", "either_or", "unless"):
        statistics = evidence(world.store, LatentId(SAELENS, latent.index)).statistics
        strongest = max(latent.rule.strengths.values()) - 0.1
        assert abs(statistics.maximum / latent.scale - strongest) <= 0.0501
        assert 0.4 * latent.scale < statistics.mean <= statistics.maximum
        assert {word for word, _ in statistics.top_tokens} <= set(latent.rule.strengths)


def test_examples_are_active_exactly_where_the_rules_say(world: World) -> None:
    for latent in world.truth.latents:
        for example in world.examples(LatentId(SAELENS, latent.index)):
            if example.activations.any():
                assert ((example.activations > 0) == world.truly_active(example)).all()
            else:
                assert not world.truly_active(example).any()


def test_labels_are_true_and_splits_are_kept(world: World) -> None:
    for latent in world.truth.family(*SCORED):
        where = LatentId(SAELENS, latent.index)
        for split in ("select", "test"):
            labelled = labelled_set(world.store, where, split, evidence(world.store, where))
            assert labelled.shortage is None
            sources = {item.source for item in labelled.items}
            assert {"activating", "random"} <= sources
            for item in labelled.items:
                assert world.truly_active(item.example).any() == item.truth
                assert (item.source == "activating") == item.truth
                assert SPLITS[world.store.document_split[item.example.document]] == split


def test_background_maxima_are_true(world: World) -> None:
    for split in SPLITS:
        background = world.store.background(split)
        for latent in world.truth.latents:
            maxima = world.store.background_maxima(LatentId(SAELENS, latent.index), split)
            places = zip(background.documents.tolist(), background.starts.tolist(), strict=True)
            truth = [world.fires[d][s : s + 32, latent.index].any() for d, s in places]
            assert (maxima > 0).tolist() == truth


def test_hard_negatives_are_what_they_say(world: World) -> None:
    """Token negatives hold a trigger in the wrong context; single tokens have none."""
    for latent in world.truth.family("previous", "earlier", "unless"):
        items = [item for item in world.sets(latent).items if item.source == "token"]
        assert len(items) >= 10
        for item in items:
            assert set(item.example.tokens) & set(latent.rule.strengths)
    for latent in world.truth.family("single"):
        assert "token" in world.sets(latent).unavailable
    for latent in world.truth.family(*SCORED):
        items = [item for item in world.sets(latent).items if item.source == "neighbour"]
        sibling = world.truth.sibling(latent.index)
        near = sum(
            bool(world.fires[e.document][e.start : e.start + 32, sibling].any())
            for e in (item.example for item in items)
        )
        assert near > 0


def test_the_logit_lens_names_the_promoted_tokens(world: World) -> None:
    for latent in world.truth.latents:
        lens = evidence(world.store, LatentId(SAELENS, latent.index)).logit_lens
        assert set(lens[: len(latent.promoted)]) == set(latent.promoted)


def test_dead_and_rare_latents_are_named(world: World) -> None:
    for latent in world.truth.family("dead", "rare"):
        where = LatentId(SAELENS, latent.index)
        shown = evidence(world.store, where)
        assert (shown.statistics.firing_count == 0) == (latent.family == "dead")
        labelled = labelled_set(world.store, where, "test", shown)
        assert labelled.shortage is not None
        assert labelled.items == []


def _score(world: World, latent: PlantedLatent, text: str) -> Score:
    where = LatentId(SAELENS, latent.index)
    materials = with_test(where, world.sets(latent))
    explanation = Explanation(latent=where, text=text, explainer="test")
    return asyncio.run(DetectionScorer(judge=PatternJudge()).score(explanation, materials))


def _balanced(score: Score) -> float:
    assert score.status == "scored"
    return score.metrics[score.headline].value


def test_the_true_pattern_scores_one(world: World) -> None:
    for latent in world.truth.family(*SCORED):
        score = _score(world, latent, latent.pattern)
        if latent.family != "earlier":
            assert all(outcome.label == outcome.truth for outcome in score.outcomes)
            assert _balanced(score) == 1.0
        else:  # the remembered token may lie before the 32 tokens that a judge sees
            assert all(outcome.truth or not outcome.label for outcome in score.outcomes)
            assert _balanced(score) > 0.75


@pytest.fixture(scope="module")
def explained(world: World) -> dict[int, Explanation]:
    explainer = PatternExplainer()

    async def explain(latent: PlantedLatent) -> Explanation:
        where = LatentId(SAELENS, latent.index)
        shown = evidence(world.store, where)
        selection = labelled_set(world.store, where, "select", shown)
        return await explainer.explain(shown, selection)

    wanted = world.truth.family(*SCORED, "dead", "rare", "dense")
    return {latent.index: asyncio.run(explain(latent)) for latent in wanted}


@pytest.mark.parametrize("family", ["token_set", "single", "previous", "either_or", "unless"])
def test_the_pattern_explainer_finds_the_rules(
    world: World, explained: dict[int, Explanation], family: Family
) -> None:
    for latent in world.truth.family(family):
        text = explained[latent.index].text
        assert _balanced(_score(world, latent, text)) >= 0.95, (latent.explanation, text)


def test_the_pattern_explainer_finds_contexts(
    world: World, explained: dict[int, Explanation]
) -> None:
    """Not only the token: hard negatives hold the token in the wrong context."""
    for latent in world.truth.family("previous"):
        score = _score(world, latent, explained[latent.index].text)
        told = [o for o in score.outcomes if o.source == "token"]
        assert np.mean([o.label == o.truth for o in told]) >= 0.9, explained[latent.index].text


def test_earlier_latents_are_explained_as_far_as_windows_show(
    world: World, explained: dict[int, Explanation]
) -> None:
    scores = [
        _balanced(_score(world, latent, explained[latent.index].text))
        for latent in world.truth.family("earlier")
    ]
    assert np.mean(scores) >= 0.85


def test_another_latents_explanation_scores_chance(
    world: World, explained: dict[int, Explanation]
) -> None:
    latents = world.truth.family(*SCORED)
    others = [*latents[17:], *latents[:17]]
    scores = [
        _balanced(_score(world, latent, explained[other.index].text))
        for latent, other in zip(latents, others, strict=True)
    ]
    assert 0.45 <= np.mean(scores) <= 0.55


def test_dead_latents_are_not_explained(explained: dict[int, Explanation], world: World) -> None:
    for latent in world.truth.family("dead"):
        assert explained[latent.index].status in ("dead", "no_explanation")
        assert explained[latent.index].text == "nothing"


def test_a_latent_active_everywhere_gets_no_pattern(
    explained: dict[int, Explanation], world: World
) -> None:
    dense = world.truth.family("dense")
    assert dense
    for latent in dense:
        assert explained[latent.index].status == "no_explanation"
        assert explained[latent.index].reason


def test_a_wrong_hook_is_refused(world: World, planted: Planted, tmp_path: Path) -> None:
    """The TopK coder of block 1 reads block 0's output: its offset is missing there."""
    coder = load_coder(planted.files.coders[TOPK])
    hook = world.subject.hook_point("h.0")
    corpus = CorpusOptions(source=str(planted.corpus), tokens=2000)
    with pytest.raises(AutointerpError, match="hook"):
        collect(world.subject, {"wrong": (coder, hook)}, corpus, ExampleOptions(), tmp_path)


def test_checkpoints_claim_their_hooks(planted: Planted, world: World) -> None:
    for name in (SAELENS, TOPK, TRANSCODER):
        info = load_coder(planted.files.coders[name]).info
        claimed = world.subject.hook_point(info.hook or name)
        assert claimed == world.subject.hook_point(HOOKS[name]), json.dumps(str(claimed))
