"""The prepared negatives of a store: windows in which a latent was found inactive.

They lie beside the store, one file a call of ``prepare``, under a folder named after the
store's own header: examples collected anew never meet old negatives. Who may only read the store
keeps those that it prepares in a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
VERSION = 2
OPEN = 16  # files whose contents stay in memory
ROWS = 2**32  # more than a file has


@dataclass(frozen=True, eq=False)
class Negatives:
    """Negatives of some latents. ``offsets`` has one slice a latent and group, in that order."""

    coders: list[str]  # [n]
    indices: NDArray[np.int64]  # [n]
    offsets: NDArray[np.int64]  # [n · groups + 1]
    windows: NDArray[np.int64]  # addresses
    lens: NDArray[np.int32]  # [n, k] token ids, −1 where there is no unembedding to read
    near: NDArray[np.int64]  # [n, m] latents of the same coder, −1 after the last

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
                near=self.near,
            )
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Negatives:
        with np.load(path) as arrays:
            return cls(
                arrays["coders"].tolist(),
                arrays["indices"],
                arrays["offsets"],
                arrays["windows"],
                arrays["lens"],
                arrays["near"],
            )


class Contrasts:
    """All prepared negatives of a store, by latent.

    ``groups`` are those that each file has; ``kind`` names their folder, and ``made_by`` is
    what else they depend on. New ones are written beside the store unless an ``own`` folder is
    given; both are read.
    """

    def __init__(
        self,
        store: ExampleStore,
        groups: Sequence[Group] = GROUPS,
        kind: str = "negatives",
        made_by: str = "",
        own: Path | None = None,
    ) -> None:
        self._groups = list(groups)
        header = (store.directory / MARKER).read_bytes() + bytes([VERSION]) + made_by.encode()
        digest = hashlib.blake2b(header, digest_size=8).hexdigest()
        shared = store.directory / f"{kind}-{digest}"
        self.directory = own / shared.name if own else shared
        self._files: list[Path] = []
        self._rows: defaultdict[str, dict[int, int]] = defaultdict(dict)  # by coder and index
        self._load = lru_cache(maxsize=OPEN)(Negatives.load)
        for folder in dict.fromkeys([shared, self.directory]):
            for path in sorted(folder.glob("*.npz")):
                with np.load(path) as arrays:
                    self._include(path, arrays["coders"].tolist(), arrays["indices"])

    def _include(self, path: Path, coders: Sequence[str], indices: NDArray[np.int64]) -> None:
        """Note what a file has: the number of the file and the row in it, as one number."""
        first = len(self._files) * ROWS
        self._files.append(path)
        for row, (coder, index) in enumerate(zip(coders, indices.tolist(), strict=True)):
            self._rows[coder][index] = first + row

    def _find(self, latent: LatentId) -> tuple[Negatives, int] | None:
        """The file that has the latent, and the row; the last few files stay in memory."""
        place = self._rows[latent.coder].get(latent.index)
        if place is None:
            return None
        file, row = divmod(place, ROWS)
        return self._load(self._files[file]), row

    def __contains__(self, latent: LatentId) -> bool:
        return latent.index in self._rows[latent.coder]

    def add(self, negatives: Negatives) -> None:
        """Save the negatives of more latents, and serve them from now on."""
        names = " ".join(map(str, negatives.latents()))
        name = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{name}.npz"
        negatives.save(path)
        self._include(path, negatives.coders, negatives.indices)

    def windows(self, latent: LatentId, group: Group) -> NDArray[np.int64]:
        """Addresses of inactive windows, in the order to use them; none if not prepared."""
        place = self._find(latent)
        if place is None:
            return np.zeros(0, np.int64)
        found, row = place
        slot = row * len(self._groups) + self._groups.index(group)
        return found.windows[found.offsets[slot] : found.offsets[slot + 1]]

    def logit_lens(self, latent: LatentId) -> list[int]:
        """Ids of the tokens that the latent promotes most, directly through the unembedding."""
        place = self._find(latent)
        return [] if place is None else [i for i in place[0].lens[place[1]].tolist() if i >= 0]

    def neighbours(self, latent: LatentId) -> list[LatentId]:
        """The latents that are easily taken for this one; none if it is not prepared."""
        place = self._find(latent)
        near = [] if place is None else place[0].near[place[1]].tolist()
        return [LatentId(latent.coder, i) for i in near if i >= 0]


_OF_STORE: WeakKeyDictionary[ExampleStore, Contrasts] = WeakKeyDictionary()


def contrasts(store: ExampleStore) -> Contrasts:
    """The prepared negatives of an open store, read once."""
    found = _OF_STORE.get(store)
    return open_contrasts(store) if found is None else found


def open_contrasts(store: ExampleStore, own: Path | None = None) -> Contrasts:
    """Read the prepared negatives of an open store; ``own`` is where new ones go."""
    _OF_STORE[store] = Contrasts(store, own=own)
    return _OF_STORE[store]


def take_over(own: Path, store: Path) -> None:
    """Copy the negatives that somebody kept in a folder of their own to those of the store."""
    for path in sorted(own.glob("*-*/*.np[yz]")):
        target = store / path.parent.name / path.name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            unfinished = target.with_suffix(".copying")
            shutil.copyfile(path, unfinished)
            unfinished.replace(target)


def chunks_of(
    prepared: Contrasts,
    latents: Iterable[LatentId],
    size: int,
    only: Collection[LatentId] | None = None,
) -> list[list[LatentId]]:
    """What to prepare of these latents, so many at once; without ``only``, all of it.

    Else chunks with none of ``only`` are left out. The others are the same as without it, since
    what is read at once may decide in the last digit of an activation.
    """
    todo = sorted({latent for latent in latents if latent not in prepared})
    chunks = [todo[low : low + size] for low in range(0, len(todo), size)]
    if only is None:
        return chunks
    wanted = frozenset(only)
    return [chunk for chunk in chunks if not wanted.isdisjoint(chunk)]


def joined(
    latents: Sequence[LatentId],
    groups: Sequence[Sequence[NDArray[np.int64]]],
    lens: NDArray[np.int32],
    near: Sequence[NDArray[np.int64]],
) -> Negatives:
    """The negatives ``groups[latent][group]``; ``near`` are each latent's neighbours."""
    slices = [windows for of_latent in groups for windows in of_latent]
    return Negatives(
        [latent.coder for latent in latents],
        np.array([latent.index for latent in latents], np.int64),
        np.concatenate([[0], np.cumsum([len(windows) for windows in slices])]).astype(np.int64),
        np.concatenate(slices) if slices else np.zeros(0, np.int64),
        lens,
        _padded(near),
    )


def _padded(rows: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """[rows, most]; −1 after the last of a row."""
    found = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int64)
    for place, row in zip(found, rows, strict=True):
        place[: len(row)] = row
    return found
