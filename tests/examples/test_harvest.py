"""The harvest against a naive loop over tokens, and against itself killed, cut and merged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autointerp.examples.corpus import document_hash, split_index
from autointerp.examples.documents import Geometry, mix, splitmix64
from autointerp.examples.harvest import collect, merge
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions, Progress
from autointerp.examples.reservoir import Entries, Reservoir
from autointerp.examples.store import GROUPS, ExampleStore
from autointerp.examples.tally import window_keys
from autointerp.latents import SPLITS, AutointerpError, LatentId
from autointerp.subject.activation_functions import Threshold, TopK
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Subject, load_subject

WINDOW, CONTEXT, SEED = 8, 40, 3
OPTIONS = ExampleOptions(
    window=WINDOW, background=20, explain_top=4, explain_sampled=6, select_sampled=3, test_sampled=5
)


def coder(d_in: int, width: int, activation: TopK | Threshold, seed: int) -> SparseCoder:
    generator = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(d_in, width, generator=generator) / d_in**0.5
    # Small decoders explain something: next to nothing is better than the wrong thing.
    return SparseCoder.assemble(
        W_enc,
        W_enc.T * 1e-3,
        torch.zeros(width),
        torch.zeros(d_in),
        activation,
        subtract_b_dec=False,
    )


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    words = ["def", "return", "self.value", "print", "for", "x", "in", "None\n", "(", ")", ":", "+"]
    return [
        " ".join(generator.choice(words, generator.integers(1, 120))) + f" # {seed} {i}"
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject("demo", context_length=CONTEXT, batch_tokens=1024)


@pytest.fixture(scope="module")
def coders(subject: Subject) -> dict[str, Attached]:
    one, two = subject.hook_point("layers.0"), subject.hook_point("layers.1.mlp.input")
    d = subject.width(one)
    return {
        "topk": Attached(coder(d, 64, TopK(4), 1), one),
        "jump": Attached(coder(d, 96, Threshold(torch.tensor(1.5)), 2), two),
    }


CORPUS = CorpusOptions(tokens=10**9)
TEXTS = texts(60)


def harvest(
    subject: Subject, coders: dict[str, Attached], directory: Path, documents: list[str]
) -> ExampleStore:
    return collect(
        subject, coders, CORPUS, OPTIONS, directory, SEED, texts=iter(documents), force=True
    )


@pytest.fixture(scope="module")
def store(
    subject: Subject, coders: dict[str, Attached], tmp_path_factory: pytest.TempPathFactory
) -> ExampleStore:
    return harvest(subject, coders, tmp_path_factory.mktemp("store"), TEXTS)


class Naive:
    """Everything a harvest should know, by the simplest loop: one row, one token at a time."""

    def __init__(self, subject: Subject, attached: Attached, documents: list[str]) -> None:
        geometry = Geometry.of(WINDOW, CONTEXT)
        self.firing: dict[int, list[float]] = defaultdict(list)
        # (latent, split) -> [(document, start, hash of the window, activations)]
        self.windows: dict[tuple[int, int], list[tuple[int, int, int, np.ndarray]]] = defaultdict(
            list
        )
        self.heads: list[int] = []
        self.hashes: dict[tuple[int, int], int] = {}
        for number, text in enumerate(documents):
            ids = subject.encode_text(text)
            identity = document_hash(text)
            head = geometry.head(identity, SEED, len(ids))
            self.heads.append(head)
            acts = np.zeros((len(ids), attached.coder.d_sae), np.float32)
            for low, high in geometry.rows(len(ids), head):
                (batch,) = subject.activations([ids[low:high]], [attached.hook])
                acts[low:high] = attached.coder.encode(batch.states[attached.hook][0]).numpy()
            for token, latent in zip(*np.nonzero(acts), strict=True):
                self.firing[int(latent)].append(float(acts[token, latent]))
            for start in range(head, len(ids) - WINDOW + 1, WINDOW):
                base = mix(np.array([identity], np.uint64), SEED) + np.uint64(start)
                self.hashes[number, start] = int(mix(base, 1)[0])
                part = acts[start : start + WINDOW]
                for latent in np.flatnonzero(part.any(0)):
                    self.windows[int(latent), split_index(identity)].append(
                        (number, start, self.hashes[number, start], part[:, latent])
                    )

    def key(self, window: int, latent: int) -> int:
        salt = splitmix64(np.array([latent], np.uint64))
        return int(window_keys(splitmix64(np.array([window], np.uint64) ^ salt))[0])


@pytest.fixture(scope="module", params=["topk", "jump"])
def naive(
    request: pytest.FixtureRequest, subject: Subject, coders: dict[str, Attached]
) -> tuple[str, Naive]:
    return request.param, Naive(subject, coders[request.param], TEXTS)


def test_statistics_equal_a_naive_loop(store: ExampleStore, naive: tuple[str, Naive]) -> None:
    name, truth = naive
    statistics = store.statistics(name)
    for latent in range(store.coders[name].width):
        values = truth.firing[latent]
        assert statistics.firing_count[latent] == len(values)
        assert statistics.sum[latent] == pytest.approx(sum(values), rel=1e-4)
        assert statistics.maximum[latent] == pytest.approx(max(values, default=0), rel=1e-4)
        counts = [len(truth.windows[latent, split]) for split in range(3)]
        assert statistics.window_count[latent].tolist() == counts
    assert statistics.tokens == sum(len(store.tokens(i)) for i in range(len(TEXTS)))


def test_kept_windows_are_the_largest_and_a_uniform_sample(
    store: ExampleStore, naive: tuple[str, Naive]
) -> None:
    name, truth = naive
    for latent in range(store.coders[name].width):
        for (split, kind), keep in zip(GROUPS, OPTIONS.keep, strict=True):
            windows = truth.windows[latent, SPLITS.index(split)]
            if kind == "top":
                windows = sorted(windows, key=lambda w: -w[3].max())
            else:
                windows = sorted(windows, key=lambda w: truth.key(w[2], latent))
            kept = store.windows(LatentId(name, latent), split, kind)
            expected = windows[:keep]
            assert len(kept) == len(expected)
            if kind == "sampled":
                addresses = zip(kept.documents.tolist(), kept.starts.tolist(), strict=True)
                assert list(addresses) == [(w[0], w[1]) for w in expected]
                for row, window in zip(kept.activations, expected, strict=True):
                    np.testing.assert_allclose(row, window[3], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(kept.maxima, [w[3].max() for w in expected], rtol=1e-4)
            np.testing.assert_array_equal(kept.maxima, kept.activations.max(1, initial=0))


def test_background_is_the_lowest_hashes_with_every_active_latent(
    store: ExampleStore, naive: tuple[str, Naive]
) -> None:
    name, truth = naive
    ranked = sorted(
        truth.hashes, key=lambda w: int(mix(np.array([truth.hashes[w]], np.uint64), 2)[0])
    )
    found = set()
    for split in SPLITS:
        background = store.background(split)
        addresses = list(
            zip(background.documents.tolist(), background.starts.tolist(), strict=True)
        )
        found |= set(addresses)
        for latent in range(store.coders[name].width):
            active = {w[:2]: w[3].max() for w in truth.windows[latent, SPLITS.index(split)]}
            maxima = store.background_maxima(LatentId(name, latent), split)
            np.testing.assert_allclose(maxima, [active.get(a, 0) for a in addresses], rtol=1e-4)
    assert found == set(ranked[: OPTIONS.background])


def test_token_windows_hold_their_token(store: ExampleStore, naive: tuple[str, Naive]) -> None:
    for token in set(store.tokens(0).tolist()):
        for split in SPLITS:
            documents, starts = store.token_windows(token, split)
            everywhere = [
                w
                for w in naive[1].hashes
                if store.document_split[w[0]] == SPLITS.index(split)
                and token in store.tokens(w[0])[w[1] : w[1] + WINDOW]
            ]
            assert len(documents) == min(8, len(everywhere))
            assert set(zip(documents.tolist(), starts.tolist(), strict=True)) <= set(everywhere)


def test_left_context_stays_in_the_row(store: ExampleStore) -> None:
    background = store.background("explain")
    for i, (document, start) in enumerate(
        zip(background.documents.tolist(), background.starts.tolist(), strict=True)
    ):
        row = store.row_start(document, start)
        assert start - CONTEXT < row <= start
        tokens = store.tokens(document)
        left = background.left_ids[i]
        np.testing.assert_array_equal(left[left >= 0], tokens[max(row, start - 32) : start])
        np.testing.assert_array_equal(background.token_ids[i], tokens[start : start + WINDOW])


@given(st.integers(1, 400), st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 5))
def test_rows_cover_a_document_and_never_cut_a_window(
    length: int, identity: int, window: int, factor: int
) -> None:
    geometry = Geometry.of(window, window * factor + 1)
    head = geometry.head(identity, 0, length)
    rows = geometry.rows(length, head)
    assert [t for low, high in rows for t in range(low, high)] == list(range(length))
    assert max(high - low for low, high in rows) <= geometry.content
    assert geometry.windows(length, head) >= (length >= window)
    for number in range(geometry.windows(length, head)):
        start = head + number * window
        (row,) = [(low, high) for low, high in rows if low <= start < high]
        assert start + window <= row[1]
        assert geometry.row_start(head, start) == row[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), max_size=200), st.integers(1, 9))
def test_reservoir_keeps_the_smallest_keys(candidates: list[tuple[int, int]], keep: int) -> None:
    reservoir = Reservoir(5, keep)
    for low in range(0, len(candidates), 17):
        part = candidates[low : low + 17]
        owners = np.array([o for o, _ in part], np.int32)
        keys = np.array([k for _, k in part], np.uint32)
        order = np.arange(low, low + len(part))
        entries = Entries(owners, keys, order.astype(np.uint32), order)
        reservoir.add(entries.take(np.flatnonzero(reservoir.admits(owners, keys))))
        if low % 2:
            reservoir.compact()
    reservoir.compact()
    kept = reservoir.entries(0, 5)
    for owner in range(5):
        expected = sorted((k, i) for i, (o, k) in enumerate(candidates) if o == owner)[:keep]
        mine = kept.owners == owner
        assert list(zip(kept.keys[mine], kept.windows[mine], strict=True)) == expected


def same(one: ExampleStore, two: ExampleStore, exact: bool = True) -> None:
    """Two stores hold the same windows and, up to rounding, the same activations."""
    np.testing.assert_array_equal(one.documents, two.documents)
    np.testing.assert_array_equal(
        np.load(one.directory / "token_windows.npy"), np.load(two.directory / "token_windows.npy")
    )
    for name in one.coders:
        for key, array in one.arrays(name).items():
            other = two.arrays(name)[key]
            if exact or array.dtype.kind != "f":
                if exact or key != "entry_keys":
                    np.testing.assert_array_equal(array, other, err_msg=f"{name} {key}")
            else:
                np.testing.assert_allclose(array, other, rtol=1e-3, atol=1e-5)


def test_batch_size_changes_nothing(
    store: ExampleStore, coders: dict[str, Attached], tmp_path: Path
) -> None:
    small = load_subject("demo", context_length=CONTEXT, batch_tokens=100)
    other = harvest(small, coders, tmp_path, TEXTS)
    for name in coders:
        one, two = store.statistics(name), other.statistics(name)
        np.testing.assert_array_equal(one.firing_count, two.firing_count)
        np.testing.assert_allclose(one.sum, two.sum, rtol=1e-4)
        for latent in range(0, store.coders[name].width, 5):
            for split in SPLITS:
                kept = [s.windows(LatentId(name, latent), split, "sampled") for s in (store, other)]
                np.testing.assert_array_equal(kept[0].documents, kept[1].documents)
                np.testing.assert_allclose(
                    kept[0].activations, kept[1].activations, rtol=1e-3, atol=1e-5
                )


def test_merging_equals_one_harvest(
    subject: Subject, coders: dict[str, Attached], store: ExampleStore, tmp_path: Path
) -> None:
    parts = [
        harvest(subject, coders, tmp_path / str(i), TEXTS[low:high])
        for i, (low, high) in enumerate([(0, 25), (25, 26), (26, 60)])
    ]
    merged = merge(parts, tmp_path / "merged")
    assert merged.token_count == store.token_count
    for name in coders:
        np.testing.assert_array_equal(
            merged.statistics(name).window_count, store.statistics(name).window_count
        )
        explained = [s.coders[name].variance_explained for s in (merged, store)]
        assert explained[0] == pytest.approx(explained[1], abs=0.05)
        for latent in range(store.coders[name].width):
            identity = LatentId(name, latent)
            for split in SPLITS:
                one, two = (s.windows(identity, split, "sampled") for s in (merged, store))
                np.testing.assert_array_equal(one.documents, two.documents)
                np.testing.assert_array_equal(one.starts, two.starts)
                np.testing.assert_allclose(
                    merged.background_maxima(identity, split),
                    store.background_maxima(identity, split),
                    rtol=1e-3,
                )
            one, two = (s.windows(identity, "explain", "top") for s in (merged, store))
            np.testing.assert_allclose(one.maxima, two.maxima, rtol=1e-3)


class KilledError(Exception):
    """Stands for a signal that ends the process."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_pass_that_was_cut_short_continues_to_the_same_store(
    subject: Subject,
    coders: dict[str, Attached],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    monkeypatch.setattr("autointerp.examples.layout.CHUNK_TOKENS", 600)
    whole = harvest(subject, coders, tmp_path / "whole", TEXTS)
    calls = 0

    def stop(progress: Progress) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KilledError

    def begin(progress: object = None) -> ExampleStore:
        return collect(
            subject, coders, CORPUS, OPTIONS, tmp_path / "cut", SEED, progress,  # type: ignore[arg-type]
            texts=iter(TEXTS), force=True, checkpoint_seconds=0,
        )  # fmt: skip

    with pytest.raises(KilledError):
        begin(stop)
    with pytest.raises(AutointerpError, match="no finished examples"):
        ExampleStore.open(tmp_path / "cut")
    same(begin(), whole)
    assert not (tmp_path / "cut" / "partial").exists()


def test_the_pair_log_is_rewritten_without_loss(
    subject: Subject,
    coders: dict[str, Attached],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autointerp.examples.layout.CHUNK_TOKENS", 300)
    plain = harvest(subject, coders, tmp_path / "plain", TEXTS)
    monkeypatch.setattr("autointerp.examples.tally.SMALLEST_REWRITE", 0)
    rewritten = collect(
        subject, coders, CORPUS, OPTIONS, tmp_path / "rewritten", SEED,
        texts=iter(TEXTS), force=True, checkpoint_seconds=0,
    )  # fmt: skip
    same(rewritten, plain)


def test_documents_split_by_content_and_copies_together(store: ExampleStore) -> None:
    assert split_index(document_hash("A  b\nc")) == split_index(document_hash("a b c"))
    counts = np.bincount([split_index(document_hash(t)) for t in texts(4000, 5)]) / 4000
    np.testing.assert_allclose(counts, [0.4, 0.2, 0.4], atol=0.03)
    expected = [split_index(document_hash(t)) for t in TEXTS]
    assert store.document_split.tolist() == expected


def test_a_finished_store_is_returned_and_other_settings_are_refused(
    subject: Subject, coders: dict[str, Attached], store: ExampleStore
) -> None:
    def never() -> Iterator[str]:
        raise AssertionError("the corpus was read again")
        yield

    def again(seed: int) -> ExampleStore:
        return collect(
            subject, coders, CORPUS, OPTIONS, store.directory, seed, texts=never(), force=True
        )

    assert again(SEED).token_count == store.token_count
    with pytest.raises(AutointerpError, match="seed = 3, not 4"):
        again(4)


def test_a_coder_that_explains_less_than_nothing_is_refused(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path
) -> None:
    good = coders["topk"]
    bad = {"bad": Attached(replace(good.coder, W_dec=-good.coder.W_dec * 1e3), good.hook)}
    with pytest.raises(AutointerpError, match=r"coder bad explains -.* less than nothing"):
        collect(subject, bad, CORPUS, OPTIONS, tmp_path / "a", texts=iter(TEXTS))
    forced = collect(subject, bad, CORPUS, OPTIONS, tmp_path / "b", texts=iter(TEXTS), force=True)
    explained = forced.coders["bad"].variance_explained
    assert explained is not None
    assert explained < 0


def test_a_coder_of_another_width_is_refused(subject: Subject, tmp_path: Path) -> None:
    wrong = {"wrong": Attached(coder(7, 16, TopK(2), 0), subject.hook_point("layers.0"))}
    with pytest.raises(AutointerpError, match=r"coder wrong reads 7 .* has 192"):
        collect(subject, wrong, CORPUS, OPTIONS, tmp_path, texts=iter(TEXTS))


def test_the_token_limit_and_dead_latents(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path
) -> None:
    silent = replace(coders["topk"].coder, activation=Threshold(torch.tensor(1e9)))
    limited = collect(
        subject,
        {"silent": Attached(silent, coders["topk"].hook)},
        CorpusOptions(tokens=333),
        OPTIONS,
        tmp_path,
        texts=iter(TEXTS),
        force=True,
    )
    record = limited.coders["silent"]
    assert (limited.token_count, record.alive, record.dead) == (333, 0, 64)
    assert len(limited.windows(LatentId("silent", 0), "test", "sampled")) == 0
    with pytest.raises(AutointerpError, match="out of range"):
        limited.windows(LatentId("silent", 64), "test", "sampled")


@pytest.mark.usefixtures("without_root_powers")
def test_a_read_only_directory_is_one_line(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AutointerpError, match="cannot write to"):
        harvest(subject, coders, tmp_path / "run", TEXTS)


def test_a_file_in_the_way_is_one_line(
    subject: Subject, coders: dict[str, Attached], tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(AutointerpError, match="cannot write to"):
        harvest(subject, coders, tmp_path / "run", TEXTS)
