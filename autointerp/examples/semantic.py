"""Windows that read as if a latent should fire in them: nearest in meaning, and inactive.

One index of vectors holds the background windows of a store, for all latents. A latent asks it
with the windows that it fires in most, of EXPLAIN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import Contrasts, Group, chunks_of, joined
from autointerp.examples.draws import split_addresses
from autointerp.examples.pools import codes_of
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId, Split
from autointerp.latents.windows import separator

GROUPS: tuple[Group, ...] = (("select", "semantic"), ("test", "semantic"))
WANTED: Mapping[Split, int] = {"select": 32, "test": 64}
EXEMPLARS = 10  # windows that a latent asks with
CHUNK = 1024  # latents prepared and saved at once
PART = 256  # windows embedded between two reports of progress
Progress = Callable[[int, int], None]
Vectors = NDArray[np.float32]  # [n, d], of length 1
Embed = Callable[[Sequence[str]], Vectors]


_OF_STORE: WeakKeyDictionary[ExampleStore, Contrasts] = WeakKeyDictionary()


def semantic(store: ExampleStore) -> Contrasts | None:
    """The semantic negatives of an open store; None without an embedder."""
    return _OF_STORE.get(store)


def open_semantic(store: ExampleStore, identity: str, own: Path | None = None) -> Contrasts:
    """Have labelled sets of the store hold the semantic negatives that an embedder found; ``own``
    is where new ones go."""
    _OF_STORE[store] = Contrasts(store, GROUPS, "semantic", identity, own)
    return _OF_STORE[store]


def prepare_semantic(
    store: ExampleStore,
    load: Callable[[], Embed],
    identity: str,
    latents: Sequence[LatentId],
    progress: Progress | None = None,
    only: Collection[LatentId] | None = None,
    own: Path | None = None,
) -> None:
    """Find and save the semantic negatives of these latents, and use them from now on.

    Latents that were prepared before cost nothing, nor do chunks of them with none of ``only``;
    new ones go to the folder ``own``, if it is given. ``load`` gives the embedder, if it is needed;
    ``identity`` tells its vectors from others'. ``progress`` is told (windows embedded, windows to
    embed) of the index, then of each chunk of latents.

    Raises:
        AutointerpError: if a latent is not in the store.
    """
    prepared = open_semantic(store, identity, own)
    chunks = chunks_of(prepared, latents, CHUNK, only)
    if not chunks:
        return
    embed = load()
    index = {split: _index(store, embed, split, prepared.directory, progress) for split in WANTED}
    for chunk in chunks:
        exemplars = _exemplars(store, embed, chunk, progress)
        found = [
            [_nearest(store, latent, split, index[split], asked) for split in WANTED]
            for latent, asked in zip(chunk, exemplars, strict=True)
        ]
        lens, near = np.zeros((len(chunk), 0), np.int32), [np.zeros(0, np.int64) for _ in chunk]
        prepared.add(joined(chunk, found, lens, near))


def _index(
    store: ExampleStore, embed: Embed, split: Split, folder: Path, progress: Progress | None
) -> Vectors:
    """Vectors of the background windows of a split; kept beside the negatives."""
    path = folder / f"index-{split}.npy"
    if not path.is_file():
        vectors = _embedded(store, embed, codes_of(store.background(split)), progress)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        with unfinished.open("wb") as file:
            np.save(file, vectors)
        unfinished.replace(path)
    kept: Vectors = np.load(path)
    return kept


def _exemplars(
    store: ExampleStore, embed: Embed, latents: list[LatentId], progress: Progress | None
) -> list[Vectors]:
    """For each latent the vectors of the EXPLAIN windows with the largest maxima."""
    asked = [codes_of(store.windows(i, "explain", "top"))[:EXEMPLARS] for i in latents]
    codes, at = np.unique(np.concatenate(asked), return_inverse=True)
    vectors = _embedded(store, embed, codes, progress)
    bounds = np.cumsum([0, *map(len, asked)]).tolist()
    return [vectors[at[low:high]] for low, high in pairwise(bounds)]


def _embedded(
    store: ExampleStore, embed: Embed, codes: NDArray[np.int64], progress: Progress | None
) -> Vectors:
    """Vectors of windows, given their addresses."""
    between, parts = separator(store.vocabulary), [np.zeros((0, 1), np.float32)]
    for low in range(0, len(codes), PART):
        tokens = store.window_tokens(*split_addresses(codes[low : low + PART])).tolist()
        parts.append(embed([between.join(map(store.vocabulary.__getitem__, t)) for t in tokens]))
        if progress is not None:
            progress(min(low + PART, len(codes)), len(codes))
    return parts[0] if len(parts) == 1 else np.concatenate(parts[1:])


def _nearest(
    store: ExampleStore, latent: LatentId, split: Split, index: Vectors, exemplars: Vectors
) -> NDArray[np.int64]:
    """Addresses of inactive background windows, those nearest to any exemplar first."""
    if not len(exemplars):
        return np.zeros(0, np.int64)
    idle = np.flatnonzero(store.background_maxima(latent, split) == 0)
    nearness = (index[idle] @ exemplars.T).max(axis=1, initial=-1.0)
    nearest = idle[np.argsort(-nearness, kind="stable")[: WANTED[split]]]
    return codes_of(store.background(split))[nearest]
