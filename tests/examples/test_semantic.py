"""Semantic negatives against a plain search, with vectors that count words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from embedding_model import CountedWords
from planted import Truth
from planted_coders import SAELENS, Planted

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.semantic import EXEMPLARS, WANTED, prepare_semantic
from autointerp.examples.store import ExampleStore
from autointerp.latents import Evidence, Example, Item, LabelledSet, LatentId
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject


@pytest.fixture(scope="module")
def folder(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collected store of the planted subject with its other negatives, and none by meaning."""
    directory = tmp_path_factory.mktemp("store")
    subject = load_subject(str(planted.files.model), device="cpu", context_length=97)
    hook = subject.hook_point("transformer.h.0")
    coder = load_coder(planted.files.coders[SAELENS])
    corpus = CorpusOptions(source=str(planted.corpus), tokens=60_000)
    options = ExampleOptions(background=700)
    store = collect(subject, {SAELENS: Attached(coder, hook, None)}, corpus, options, directory)
    prepare(store, subject, {SAELENS: (coder, hook)}, latents(planted.truth))
    return directory


def latents(truth: Truth) -> list[LatentId]:
    return [LatentId(SAELENS, latent.index) for latent in truth.family("token_set", "previous")]


def sets(store: ExampleStore, latent: LatentId) -> tuple[Evidence, LabelledSet]:
    shown = evidence(store, latent)
    return shown, labelled_set(store, latent, "test", shown)


def text(example: Example) -> str:
    return " ".join(example.tokens)


def semantic(found: LabelledSet) -> list[Item]:
    return [item for item in found.items if item.source == "semantic"]


def test_they_are_the_inactive_windows_nearest_to_an_exemplar(
    folder: Path, planted: Planted
) -> None:
    store, embed = ExampleStore.open(folder), CountedWords()
    wanted = latents(planted.truth)
    prepare_semantic(store, lambda: embed, "counted", wanted)
    background = store.background("test")
    words = np.array(store.vocabulary)
    vectors = embed([" ".join(words[row]) for row in background.token_ids])
    for latent in wanted[:4]:
        _, found = sets(store, latent)
        top = store.windows(latent, "explain", "top")
        ids = store.window_tokens(top.documents[:EXEMPLARS], top.starts[:EXEMPLARS])
        near = (vectors @ embed([" ".join(words[row]) for row in ids]).T).max(1)
        near[store.background_maxima(latent, "test") > 0] = -2
        least = np.sort(near)[-WANTED["test"]]
        items = semantic(found)
        assert 10 <= len(items) <= 50
        windows = zip(background.documents, background.starts, strict=True)
        at = {window: place for place, window in enumerate(windows)}
        for item in items:
            place = at[item.example.document, item.example.start]
            assert near[place] >= least - 1e-6
            assert not item.truth
            assert not any(planted.truth.fires(latent.index, item.example.tokens))


def test_no_window_stands_twice_in_a_set(folder: Path, planted: Planted) -> None:
    store = ExampleStore.open(folder)
    prepare_semantic(store, CountedWords, "counted", latents(planted.truth))
    for latent in latents(planted.truth):
        _, found = sets(store, latent)
        windows = [(item.example.document, item.example.start) for item in found.items]
        assert len(set(windows)) == len(windows)
        assert "semantic" not in found.unavailable


def test_one_index_serves_all_latents_and_is_kept(folder: Path, planted: Planted) -> None:
    wanted = latents(planted.truth)
    first, again, more = CountedWords(), CountedWords(), CountedWords()
    store = ExampleStore.open(folder)
    prepare_semantic(store, lambda: first, "another", wanted[:3])
    judged = len(store.background("select").documents) + len(store.background("test").documents)
    assert judged < len(first.texts) <= judged + 3 * EXEMPLARS
    reopened = ExampleStore.open(folder)
    prepare_semantic(reopened, lambda: again, "another", wanted[:3])
    assert not again.texts
    assert [text(i.example) for i in semantic(sets(reopened, wanted[0])[1])] == [
        text(i.example) for i in semantic(sets(store, wanted[0])[1])
    ]
    prepare_semantic(reopened, lambda: more, "another", wanted[:4])
    assert 0 < len(more.texts) <= EXEMPLARS


def test_without_an_embedder_the_source_is_unavailable(folder: Path, planted: Planted) -> None:
    latent = latents(planted.truth)[0]
    _, found = sets(ExampleStore.open(folder), latent)
    assert found.unavailable["semantic"] == "no embedder"
    assert not semantic(found)
    store = ExampleStore.open(folder)
    prepare_semantic(store, CountedWords, "counted", latents(planted.truth)[1:])
    _, unprepared = sets(store, LatentId(SAELENS, planted.truth.family("unless")[0].index))
    assert unprepared.unavailable["semantic"] == "not prepared"


def test_the_other_windows_of_a_set_stay_the_same(folder: Path, planted: Planted) -> None:
    plain, with_more = ExampleStore.open(folder), ExampleStore.open(folder)
    prepare_semantic(with_more, CountedWords, "counted", latents(planted.truth))
    for latent in latents(planted.truth)[:5]:
        before = [(text(i.example), i.source) for i in sets(plain, latent)[1].items]
        after = [(text(i.example), i.source) for i in sets(with_more, latent)[1].items]
        assert before == [pair for pair in after if pair[1] != "semantic"]
