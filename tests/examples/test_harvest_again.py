"""The harvest against itself: in other batches, in parts, cut short, and asked for again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harvesting import CONTEXT, CORPUS, OPTIONS, SEED, TEXTS, KilledError, harvest, unread

from autointerp.examples.harvest import collect, merge
from autointerp.examples.options import Attached, Progress
from autointerp.examples.store import ExampleStore
from autointerp.latents import SPLITS, AutointerpError, LatentId
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject


def same(one: ExampleStore, two: ExampleStore) -> None:
    """Two stores hold the same windows and activations."""
    np.testing.assert_array_equal(one.documents, two.documents)
    np.testing.assert_array_equal(
        np.load(one.directory / "token_windows.npy"), np.load(two.directory / "token_windows.npy")
    )
    for name in one.coders:
        for key, array in one.arrays(name).items():
            np.testing.assert_array_equal(array, two.arrays(name)[key], err_msg=f"{name} {key}")


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


def test_a_finished_store_is_returned_and_other_settings_are_refused(
    subject: Subject, coders: dict[str, Attached], store: ExampleStore
) -> None:
    def again(seed: int) -> ExampleStore:
        return collect(
            subject, coders, CORPUS, OPTIONS, store.directory, seed, texts=unread(), force=True
        )

    assert again(SEED).token_count == store.token_count
    with pytest.raises(AutointerpError, match="seed = 3, not 4"):
        again(4)
