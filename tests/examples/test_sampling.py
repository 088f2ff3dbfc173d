"""Evidence and labelled sets against plain loops over the same store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.examples.contrast import contrasts
from autointerp.examples.harvest import collect
from autointerp.examples.options import CorpusOptions, ExampleOptions
from autointerp.examples.overlap import Candidates, Shown
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.stdlib import texts
from autointerp.examples.store import ExampleStore
from autointerp.latents import Background, Evidence, Example, LabelledSet, LatentId
from autointerp.subject.activation_functions import TopK
from autointerp.subject.coders import SparseCoder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import HookPoint, Subject

WINDOW = 32
Coders = dict[str, tuple[SparseCoder, HookPoint]]


DEAD = 17


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo", context_length=128)


@pytest.fixture(scope="module")
def coders(subject: Subject) -> Coders:
    generator = torch.Generator().manual_seed(0)
    encoder = torch.randn(192, 256, generator=generator) / 192**0.5
    decoder = encoder.T / encoder.norm(dim=0)[:, None]
    bias = torch.zeros(256)
    bias[DEAD] = -1e9
    coder = SparseCoder.assemble(
        encoder, decoder, bias, torch.zeros(192), TopK(2), subtract_b_dec=True
    )
    return {"layers.1": (coder, subject.hook_point("layers.1"))}


def planted(count: int) -> Iterator[str]:
    """Documents of which every fifth is an earlier one behind a preamble of its own, so that
    neither its hash nor its windows are those of the original."""
    originals: list[str] = []
    for number, text in zip(range(count), texts(), strict=False):
        if number % 5 == 4:
            yield f"# copy {number}\n" + originals[(number * 7) % len(originals)]
        else:
            originals.append(text)
            yield text


@pytest.fixture(scope="module")
def store(
    subject: Subject, coders: Coders, tmp_path_factory: pytest.TempPathFactory
) -> ExampleStore:
    return collect(
        subject,
        coders,
        CorpusOptions(tokens=60_000),
        ExampleOptions(background=600),
        tmp_path_factory.mktemp("store"),
        seed=3,
        texts=planted(400),
        force=True,
    )


@pytest.fixture(scope="module")
def latents(store: ExampleStore, subject: Subject, coders: Coders) -> list[LatentId]:
    firing = np.asarray(store.statistics("layers.1").firing_count)
    alive = np.flatnonzero(firing)
    order = alive[np.argsort(firing[alive])]
    chosen = [LatentId("layers.1", int(i)) for i in order[:: max(1, len(order) // 24)]]
    prepare(store, subject, coders, chosen)
    return chosen


@pytest.fixture(scope="module")
def sets(store: ExampleStore, latents: list[LatentId]) -> list[tuple[Evidence, LabelledSet]]:
    seen = [evidence(store, latent) for latent in latents]
    return [
        (shown, labelled_set(store, shown.latent, split, shown))
        for shown in seen
        for split in ("select", "test")
    ]


def grams(tokens: np.ndarray) -> set[tuple[int, ...]]:
    ids = tokens.tolist()
    return {tuple(ids[i : i + 5]) for i in range(len(ids) - 4)}


class Known:
    """A shown window, cut up once: its runs of 16 tokens and its set of 5-grams."""

    def __init__(self, tokens: np.ndarray) -> None:
        ids = tokens.tolist()
        self.runs = {tuple(ids[i : i + 16]) for i in range(WINDOW - 15)}
        self.grams = grams(tokens)


def naive_repeats(tokens: np.ndarray, peak: int, shown: list[Known]) -> bool:
    start = min(max(peak - 8, 0), WINDOW - 16)
    span, mine = tuple(tokens[start : start + 16].tolist()), grams(tokens)
    return any(
        span in other.runs or len(mine & other.grams) * 2 >= len(mine | other.grams)
        for other in shown
    )


@cache
def known_background(background: Background) -> list[Known]:
    return [Known(tokens) for tokens in background.token_ids]


def shown_windows(shown: Evidence) -> list[Known]:
    examples = (*shown.top, *shown.sampled, *shown.token_matched)
    return [Known(e.token_ids) for e in examples] + known_background(shown.background)


def naive_positives(store: ExampleStore, shown: Evidence, split: str) -> tuple[list[int], int]:
    """Indices of the usable windows when order does not matter, and the number dropped."""
    windows = store.windows(shown.latent, split, "sampled")
    known = shown_windows(shown)
    kept = []
    for i in range(len(windows)):
        tokens = store.tokens(int(windows.documents[i]))[windows.starts[i] :][:WINDOW]
        if not naive_repeats(tokens, int(windows.activations[i].argmax()), known):
            kept.append(i)
    return kept, len(windows) - len(kept)


@given(
    st.integers(0, 2**32),
    st.integers(2, 9),
    st.integers(1, 12),
    st.floats(0, 1),
)
@settings(max_examples=60)
def test_overlap_is_what_plain_loops_find(
    seed: int, vocabulary: int, count: int, copied: float
) -> None:
    random = np.random.default_rng(seed)
    shown = random.integers(0, vocabulary, (count, WINDOW)).astype(np.int32)
    mine = random.integers(0, vocabulary, (20, WINDOW)).astype(np.int32)
    for row in mine:  # copy a run of some length to another place
        if random.random() < copied:
            length = int(random.integers(5, WINDOW + 1))
            a, b = random.integers(0, WINDOW - length + 1, 2)
            row[a : a + length] = shown[random.integers(count), b : b + length]
    peaks = random.integers(0, WINDOW, 20)
    found = Shown(shown).repeated_by(Candidates.of(mine, peaks))
    known = [Known(tokens) for tokens in shown]
    expected = [naive_repeats(t, int(p), known) for t, p in zip(mine, peaks, strict=True)]
    assert found.tolist() == expected


def test_nothing_shown_is_scored(sets: list[tuple[Evidence, LabelledSet]]) -> None:
    assert sum(labelled.dropped for _, labelled in sets) > 0  # the planted copies were met
    for shown, labelled in sets[::8]:
        documents = {e.document for e in (*shown.top, *shown.sampled, *shown.token_matched)}
        known = shown_windows(shown)
        for item in labelled.items:
            assert item.example.document not in documents
            peak = int(item.example.activations.argmax()) if item.truth else WINDOW // 2
            assert not naive_repeats(item.example.token_ids, peak, known)


def test_positives_are_chosen_as_by_plain_loops(
    store: ExampleStore, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    scored = 0
    for shown, labelled in sets[1::6]:
        windows = store.windows(shown.latent, labelled.split, "sampled")
        kept, dropped = naive_positives(store, shown, labelled.split)
        assert labelled.dropped >= dropped
        positives = [item for item in labelled.items if item.truth]
        addresses = {(int(windows.documents[i]), int(windows.starts[i])) for i in kept}
        assert {(p.example.document, p.example.start) for p in positives} <= addresses
        if labelled.shortage is not None:
            assert not labelled.items
            continue
        scored += 1
        per_document = Counter(p.example.document for p in positives)
        assert max(per_document.values()) <= 2
        deciles = Counter(p.decile for p in positives)
        assert len(set(deciles.values())) == 1
        assert set(deciles) == set(range(len(deciles)))
        assert len(deciles) <= 10
        assert len(positives) <= 50
        for low in range(len(deciles) - 1):
            weaker = max(p.example.maximum for p in positives if p.decile == low)
            assert weaker <= min(p.example.maximum for p in positives if p.decile == low + 1)
    assert scored


def test_negatives_are_inactive_in_the_model(
    store: ExampleStore,
    subject: Subject,
    coders: Coders,
    sets: list[tuple[Evidence, LabelledSet]],
) -> None:
    coder, hook = coders["layers.1"]
    seen: Counter[str] = Counter()
    for shown, labelled in sets[1::10]:
        windows = [(i.example, i.source) for i in labelled.items if not i.truth]
        windows += [(example, "token") for example in shown.token_matched]
        rows = [row_of(store, example) for example, _ in windows]
        for batch in subject.activations(rows, [hook]):
            for place, index in enumerate(batch.rows):
                states = batch.states[hook][place, : batch.lengths[place]][-WINDOW:]
                # Which of two nearly equal latents TopK keeps may differ between batches.
                active = (coder.encode(states)[:, shown.latent.index] > 0).sum()
                seen[windows[index][1]] += 1
                seen["active"] += int(active > 0)
    assert {"random", "token", "neighbour"} <= set(seen)
    assert seen["active"] <= 0.002 * seen.total()


def row_of(store: ExampleStore, example: Example) -> np.ndarray:
    start = store.row_start(example.document, example.start)
    return store.tokens(example.document)[start : example.start + WINDOW]


def test_examples_hold_the_document_and_its_context(
    store: ExampleStore, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    for shown, labelled in sets[::7]:
        for example in (*shown.top, *shown.token_matched, *(i.example for i in labelled.items)):
            row = row_of(store, example)
            assert example.token_ids.tolist() == row[-WINDOW:].tolist()
            assert example.left_ids.tolist() == row[:-WINDOW][-32:].tolist()


def test_sources_hold_what_they_say(
    store: ExampleStore, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    for shown, labelled in sets:
        peaks = {int(e.token_ids[e.activations.argmax()]) for e in shown.sampled}
        addresses = Counter((i.example.document, i.example.start) for i in labelled.items)
        assert not addresses or max(addresses.values()) == 1
        for item in labelled.items:
            assert item.truth == bool(item.example.activations.any())
            if item.source == "token":
                assert peaks & set(item.example.token_ids.tolist())
        counts = Counter(item.source for item in labelled.items if not item.truth)
        for source in ("random", "token", "neighbour"):
            available = labelled.shortage is None and source not in labelled.unavailable
            assert 10 <= counts[source] <= 50 if available else counts[source] == 0


def test_evidence_is_of_the_explain_split_and_ordered(
    store: ExampleStore, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    for shown, _ in sets:
        examples = (*shown.top, *shown.sampled, *shown.token_matched)
        assert all(store.document_split[e.document] == 0 for e in examples)
        assert [e.maximum for e in shown.top] == sorted(
            (e.maximum for e in shown.top), reverse=True
        )
        maxima = [e.maximum for e in shown.sampled]
        assert maxima == sorted(maxima)
        expected = np.quantile(maxima or [0.0], np.linspace(0, 1, 11))
        assert np.allclose(shown.statistics.quantiles, expected)
        peaks = [naive_span(e) for e in shown.top]
        assert len(set(peaks)) == len(peaks)


def naive_span(example: Example) -> tuple[int, ...]:
    start = min(max(int(example.activations.argmax()) - 8, 0), WINDOW - 16)
    return tuple(example.token_ids[start : start + 16].tolist())


def test_logit_lens_is_the_unembedding_along_the_decoder(
    subject: Subject, coders: Coders, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    unembedding = subject.model.get_output_embeddings().weight
    for shown, _ in sets[::8]:
        logits = unembedding @ coders["layers.1"][0].W_dec[shown.latent.index]
        best = logits.argsort(descending=True)[:20].tolist()
        assert shown.logit_lens == [subject.vocabulary[i] for i in best]


def as_tuple(labelled: LabelledSet) -> list[tuple[int, int, str, int | None]]:
    return [(i.example.document, i.example.start, i.source, i.decile) for i in labelled.items]


def test_the_same_sets_again_from_disk_and_in_any_order(
    store: ExampleStore, sets: list[tuple[Evidence, LabelledSet]]
) -> None:
    again = ExampleStore.open(store.directory)
    for shown, labelled in reversed(sets):
        fresh = labelled_set(again, shown.latent, labelled.split, evidence(again, shown.latent))
        assert as_tuple(fresh) == as_tuple(labelled)
        assert fresh.dropped == labelled.dropped


def test_prepared_latents_cost_nothing_again(
    store: ExampleStore, subject: Subject, coders: Coders, latents: list[LatentId]
) -> None:
    files = sorted(contrasts(store).directory.iterdir())
    told: list[int] = []
    prepare(store, subject, coders, latents, lambda done, total: told.append(done))
    assert not told
    assert sorted(contrasts(store).directory.iterdir()) == files


def test_an_unprepared_latent_says_so(store: ExampleStore, latents: list[LatentId]) -> None:
    firing = np.array(store.statistics("layers.1").firing_count)
    firing[[latent.index for latent in latents]] = 0
    latent = LatentId("layers.1", int(firing.argmax()))
    shown = evidence(store, latent)
    labelled = labelled_set(store, latent, "test", shown)
    assert shown.token_matched == []
    assert shown.logit_lens == []
    assert labelled.unavailable == {
        "token": "not prepared",
        "neighbour": "not prepared",
        "semantic": "no embedder",
    }


def test_explain_is_never_scored(store: ExampleStore, latents: list[LatentId]) -> None:
    with pytest.raises(ValueError, match="never judged"):
        labelled_set(store, latents[0], "explain", evidence(store, latents[0]))


def test_a_dead_latent_has_evidence_and_a_shortage(store: ExampleStore) -> None:
    latent = LatentId("layers.1", DEAD)
    shown = evidence(store, latent)
    assert not shown.top
    assert not shown.sampled
    assert shown.statistics.firing_count == 0
    shortage = labelled_set(store, latent, "test", shown).shortage
    assert shortage is not None
    assert shortage.startswith("0 distinct active windows")
