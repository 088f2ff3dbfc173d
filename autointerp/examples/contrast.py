"""The prepared negatives of a store: windows in which a latent was found inactive.

They lie beside the store, one file a call of ``prepare``, under a folder named after the
store's own header: examples collected anew never meet old negatives.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import LatentId, Source, Split

Group = tuple[Split, Source]
GROUPS: tuple[Group, ...] = (
    ("explain", "token"),
    ("select", "token"),
    ("test", "token"),
    ("select", "neighbour"),
    ("test", "neighbour"),
)
VERSION = 1


@dataclass(frozen=True, eq=False)
class Shard:
    """Negatives of some latents. ``offsets`` has one slice a latent and group, in that order."""

    coders: list[str]  # [n]
    indices: NDArray[np.int64]  # [n]
    offsets: NDArray[np.int64]  # [n · groups + 1]
    windows: NDArray[np.int64]  # addresses
    lens: NDArray[np.int32]  # [n, k] token ids, −1 where there is no unembedding to read

    def latents(self) -> list[LatentId]:
        return [LatentId(c, i) for c, i in zip(self.coders, self.indices.tolist(), strict=True)]

    def save(self, path: Path) -> None:
        """Write the file whole or not at all."""
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        with unfinished.open("wb") as file:
            np.savez(
                file,
                coders=np.array(self.coders),
                indices=self.indices,
                offsets=self.offsets,
                windows=self.windows,
                lens=self.lens,
            )
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Shard:
        with np.load(path) as arrays:
            return cls(
                arrays["coders"].tolist(),
                arrays["indices"],
                arrays["offsets"],
                arrays["windows"],
                arrays["lens"],
            )


class Contrasts:
    """All prepared negatives of a store, by latent.

    ``groups`` are those that each shard has; ``kind`` names their folder, and ``made_by`` is
    what else they depend on.
    """

    def __init__(
        self,
        store: ExampleStore,
        groups: Sequence[Group] = GROUPS,
        kind: str = "negatives",
        made_by: str = "",
    ) -> None:
        self._groups = list(groups)
        header = (store.directory / MARKER).read_bytes() + bytes([VERSION]) + made_by.encode()
        digest = hashlib.blake2b(header, digest_size=8).hexdigest()
        self.directory = store.directory / f"{kind}-{digest}"
        self._places: dict[LatentId, tuple[Shard, int]] = {}
        for path in sorted(self.directory.glob("*.npz")):
            self._include(Shard.load(path))

    def _include(self, shard: Shard) -> None:
        for row, latent in enumerate(shard.latents()):
            self._places[latent] = (shard, row)

    def __contains__(self, latent: LatentId) -> bool:
        return latent in self._places

    def add(self, shard: Shard) -> None:
        """Save the negatives of more latents, and serve them from now on."""
        names = " ".join(map(str, shard.latents()))
        name = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
        self.directory.mkdir(exist_ok=True)
        shard.save(self.directory / f"{name}.npz")
        self._include(shard)

    def windows(self, latent: LatentId, group: Group) -> NDArray[np.int64]:
        """Addresses of inactive windows, in the order to use them; none if not prepared."""
        place = self._places.get(latent)
        if place is None:
            return np.zeros(0, np.int64)
        shard, row = place
        slot = row * len(self._groups) + self._groups.index(group)
        return shard.windows[shard.offsets[slot] : shard.offsets[slot + 1]]

    def logit_lens(self, latent: LatentId) -> list[int]:
        """Ids of the tokens that the latent promotes most, directly through the unembedding."""
        place = self._places.get(latent)
        return [] if place is None else [i for i in place[0].lens[place[1]].tolist() if i >= 0]


_OF_STORE: WeakKeyDictionary[ExampleStore, Contrasts] = WeakKeyDictionary()


def contrasts(store: ExampleStore) -> Contrasts:
    """The prepared negatives of an open store, read once."""
    found = _OF_STORE.get(store)
    if found is None:
        found = _OF_STORE[store] = Contrasts(store)
    return found


def joined(
    latents: Sequence[LatentId],
    groups: Sequence[Sequence[NDArray[np.int64]]],
    lens: NDArray[np.int32],
) -> Shard:
    """A shard of ``groups[latent][group]``."""
    slices = [windows for of_latent in groups for windows in of_latent]
    return Shard(
        [latent.coder for latent in latents],
        np.array([latent.index for latent in latents], np.int64),
        np.concatenate([[0], np.cumsum([len(windows) for windows in slices])]).astype(np.int64),
        np.concatenate(slices) if slices else np.zeros(0, np.int64),
        lens,
    )
