"""The background windows of each split as negatives, hashed once for all latents of a store."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.draws import addresses
from autointerp.examples.overlap import Candidates, Shown, Tokens
from autointerp.examples.store import ExampleStore, Windows
from autointerp.latents import Background, Split

_JUDGED: tuple[Split, ...] = ("select", "test")


class Pools:
    """What is the same for every latent of a store. Get it with :func:`pools`."""

    def __init__(self, store: ExampleStore) -> None:
        self.shown = Shown(store.background("explain").token_ids)
        backgrounds = {split: store.background(split) for split in _JUDGED}
        self.codes = {split: codes_of(b) for split, b in backgrounds.items()}
        self.hashed = {
            split: Candidates.of(b.token_ids, middles(b.token_ids))
            for split, b in backgrounds.items()
        }
        # Of an EXPLAIN background window.
        self.repeated = {s: self.shown.repeated_by(hashed) for s, hashed in self.hashed.items()}
        self._orders = {split: np.argsort(codes) for split, codes in self.codes.items()}
        self._ascending = {split: self.codes[split][order] for split, order in self._orders.items()}

    def places(self, codes: NDArray[np.int64], split: Split) -> NDArray[np.intp]:
        """Where windows, by address, are in ``background(split)``; −1 if they are not: [n]."""
        ascending = self._ascending[split]
        if not len(ascending):
            return np.full(len(codes), -1)
        near = np.minimum(np.searchsorted(ascending, codes), len(ascending) - 1)
        return np.where(ascending[near] == codes, self._orders[split][near], -1)


def codes_of(windows: Background | Windows) -> NDArray[np.int64]:
    return addresses(windows.documents, windows.starts)


def middles(tokens: Tokens) -> NDArray[np.intp]:
    """An inactive window has no peak; its middle stands for it."""
    return np.full(len(tokens), tokens.shape[1] // 2)


_OF_STORE: WeakKeyDictionary[ExampleStore, Pools] = WeakKeyDictionary()


def pools(store: ExampleStore) -> Pools:
    """The store's pools, worked out at the first call."""
    found = _OF_STORE.get(store)
    if found is None:
        found = _OF_STORE[store] = Pools(store)
    return found
