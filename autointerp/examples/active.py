"""Where a latent is active, and where latents are that are easily taken for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.store import ExampleStore
from autointerp.latents import ExampleBlock, LatentId, Split


def active_windows(store: ExampleStore, latent: LatentId, split: Split) -> ExampleBlock:
    """The uniform sample of a latent's active windows, in random order.

    Raises:
        AutointerpError: if the latent is not in the store.
    """
    windows = store.windows(latent, split, "sampled")
    return ExampleBlock(
        latent,
        windows.documents,
        windows.starts,
        store.window_tokens(windows.documents, windows.starts),
        windows.activations,
        store.left_tokens(windows.documents, windows.starts),
        store.vocabulary,
    )


def neighbours_active(store: ExampleStore, latent: LatentId, split: Split) -> NDArray[np.bool_]:
    """In which windows of the background a neighbour of the latent is active: [n].

    Neighbours are those that its negatives were prepared from; nowhere if they were not.
    """
    near = contrasts(store).neighbours(latent)
    found = np.zeros(len(store.background(split).documents), bool)
    if near:
        found |= (store.background_maxima_of(near, split) > 0).any(axis=0)
    return found
