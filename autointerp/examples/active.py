"""All kept windows of one latent and split, as one block."""

from __future__ import annotations

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
