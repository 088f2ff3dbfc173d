"""What a harvest keeps, against a naive loop over tokens; and what it refuses to read or write."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from harvesting import CONTEXT, CORPUS, OPTIONS, SEED, TEXTS, WINDOW, coder, harvest, texts

from autointerp.examples.corpus import document_hash, split_index
from autointerp.examples.documents import Geometry, mix, splitmix64
from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions
from autointerp.examples.store import GROUPS, ExampleStore
from autointerp.examples.tally import window_keys
from autointerp.latents import SPLITS, AutointerpError, LatentId
from autointerp.subject.activation_functions import Threshold, TopK
from autointerp.subject.model import Subject


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


def test_documents_split_by_content_and_copies_together(store: ExampleStore) -> None:
    assert split_index(document_hash("A  b\nc")) == split_index(document_hash("a b c"))
    counts = np.bincount([split_index(document_hash(t)) for t in texts(4000, 5)]) / 4000
    np.testing.assert_allclose(counts, [0.4, 0.2, 0.4], atol=0.03)
    expected = [split_index(document_hash(t)) for t in TEXTS]
    assert store.document_split.tolist() == expected


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
