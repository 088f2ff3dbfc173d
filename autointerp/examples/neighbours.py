"""Which latents are easily taken for one another: near decoder directions, and firing together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.coders import SparseCoder

EACH = 8  # neighbours of each kind
COSINE_STEPS = 10_000  # cosines closer than one over this count as equal
BLOCK = 256  # latents whose cosines with all others are held at once


def neighbours(
    store: ExampleStore, name: str, coder: SparseCoder, chosen: Sequence[int]
) -> list[NDArray[np.int64]]:
    """For each chosen latent of a coder its neighbours: up to 8 by the cosine of the decoder's
    directions, and up to 8 that are most often active in the same EXPLAIN background windows.

    Raises:
        AutointerpError: if the coder has another number of latents than the store has of it.
    """
    alive = np.asarray(store.statistics(name).firing_count) > 0
    if len(alive) != coder.d_sae:
        raise AutointerpError(
            f"coder {name} has {coder.d_sae} latents, and {store.directory} {len(alive)} of it;"
            " name the coder that the store was made with"
        )
    together = _active_windows(store, name, len(alive))
    found: list[NDArray[np.int64]] = []
    for low in range(0, len(chosen), BLOCK):
        block = np.array(chosen[low : low + BLOCK], np.int64)
        near = _nearest(coder, block, alive)
        company = _companions(together, block)
        found += [np.union1d(one, other) for one, other in zip(near, company, strict=True)]
    return found


def _nearest(
    coder: SparseCoder, block: NDArray[np.int64], alive: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    directions = coder.decoder_directions().float()
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-12)
    cosines = (directions[block] @ directions.T).cpu().numpy()
    cosines[:, ~alive] = -np.inf
    cosines[np.arange(len(block)), block] = -np.inf
    width = cosines.shape[1]
    keep = min(EACH, width)
    # Cosines differ in their last bits with the size of the block; like ones go by index.
    ranks = np.nan_to_num(np.rint(cosines * -COSINE_STEPS), posinf=2.0**40).astype(np.int64)
    best = np.argpartition(ranks * width + np.arange(width), keep - 1, axis=1)[:, :keep]
    rows = np.arange(len(block))[:, None]
    return [b[np.isfinite(c)] for b, c in zip(best, cosines[rows, best], strict=True)]


_OF_STORE: WeakKeyDictionary[ExampleStore, dict[str, sparse.csc_array]] = WeakKeyDictionary()


def _active_windows(store: ExampleStore, name: str, width: int) -> sparse.csc_array:
    """Which latent is active in which EXPLAIN background window: [windows, latents] of ones."""
    known = _OF_STORE.setdefault(store, {})
    if name not in known:
        owners, rows = [], []
        for low in range(0, width, BLOCK):
            latents = [LatentId(name, i) for i in range(low, min(low + BLOCK, width))]
            owner, row = np.nonzero(store.background_maxima_of(latents, "explain"))
            owners.append(owner + low)
            rows.append(row)
        places = (np.concatenate(rows), np.concatenate(owners))
        shape = (len(store.background("explain").documents), width)
        known[name] = sparse.csc_array((np.ones(len(places[0]), np.float32), places), shape=shape)
    return known[name]


def _companions(
    together: sparse.csc_array, block: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """For each latent of a block those with the most shared windows, over the root of the
    product of their counts."""
    shared = sparse.csr_array(together[:, block].T @ together)
    counts = np.maximum(np.diff(together.indptr), 1)
    for latent, (low, high) in zip(block, pairwise(shared.indptr), strict=True):
        others, windows = shared.indices[low:high].astype(np.int64), shared.data[low:high]
        mine = others != latent
        others, closeness = others[mine], (windows / np.sqrt(counts[others]))[mine]
        yield others[np.lexsort((others, -closeness))[:EACH]]
