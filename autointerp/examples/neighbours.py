"""Which latents are easily taken for one another: near decoder directions, and firing together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.subject.coders import SparseCoder

EACH = 8  # neighbours of each kind
COSINE_STEPS = 10_000  # cosines closer than one over this count as equal
BLOCK = 256  # latents whose cosines with all others are held at once


def neighbours(
    store: ExampleStore, name: str, coder: SparseCoder, chosen: Sequence[int]
) -> list[NDArray[np.int64]]:
    """For each chosen latent of a coder its neighbours: up to 8 by the cosine of the decoder's
    directions, and up to 8 that are most often active in the same EXPLAIN background windows."""
    alive = np.asarray(store.statistics(name).firing_count) > 0
    together = _active_windows(store, name, len(alive))
    found: list[NDArray[np.int64]] = []
    for low in range(0, len(chosen), BLOCK):
        block = np.array(chosen[low : low + BLOCK], np.int64)
        near = _nearest(coder, block, alive)
        for latent, by_cosine in zip(block, near, strict=True):
            by_company = _companions(together, int(latent))
            found.append(np.unique(np.concatenate([by_cosine, by_company])))
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


def _active_windows(store: ExampleStore, name: str, width: int) -> sparse.csc_array:
    """Which latent is active in which EXPLAIN background window: [windows, latents] of ones."""
    columns = [
        np.flatnonzero(store.background_maxima(LatentId(name, i), "explain")) for i in range(width)
    ]
    bounds = np.concatenate([[0], np.cumsum([len(column) for column in columns])])
    rows = np.concatenate(columns)
    shape = (len(store.background("explain").documents), width)
    return sparse.csc_array((np.ones(len(rows), np.float32), rows, bounds), shape=shape)


def _companions(together: sparse.csc_array, latent: int) -> NDArray[np.int64]:
    """The latents with the most shared windows, over the root of the product of their counts."""
    mine = together[:, [latent]]
    shared = (together.T @ mine).toarray()[:, 0]
    shared[latent] = 0
    counts = np.maximum(np.diff(together.indptr), 1)
    closeness = shared / np.sqrt(counts)
    best: NDArray[np.int64] = np.argsort(-closeness, kind="stable")[:EACH]
    kept: NDArray[np.int64] = best[closeness[best] > 0]
    return kept
