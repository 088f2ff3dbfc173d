"""Keep the K entries with the smallest keys, for each of many owners, in fixed memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMPTY = np.uint32(2**32 - 1)
COUNT_BITS = 8  # a place in the pair log is packed as offset << 8 | number of pairs
BLOCK = 2**18  # slots handled at once while compacting


@dataclass(frozen=True, eq=False)
class Entries:
    """Candidates or kept entries, one position an entry."""

    owners: NDArray[np.int32]
    keys: NDArray[np.uint32]
    windows: NDArray[np.uint32]
    pairs: NDArray[np.int64]  # where its activations lie in the pair log

    def take(self, at: NDArray[np.generic]) -> Entries:
        return Entries(self.owners[at], self.keys[at], self.windows[at], self.pairs[at])

    @classmethod
    def join(cls, parts: list[Entries]) -> Entries:
        return cls(
            np.concatenate([p.owners for p in parts]),
            np.concatenate([p.keys for p in parts]),
            np.concatenate([p.windows for p in parts]),
            np.concatenate([p.pairs for p in parts]),
        )


class Reservoir:
    """The K smallest keys of each owner; equal keys are kept in the order they came.

    A slot takes 4 bytes of key, 4 of window, and with ``detailed`` 5 of activations (a place in
    the pair log, split in two): 13 in all. Candidates wait in a buffer of about four an owner.
    """

    def __init__(self, owners: int, keep: int, detailed: bool = True) -> None:
        self.owners, self.keep, self.detailed = owners, keep, detailed
        shape = (owners, keep)
        self.keys = np.full(shape, EMPTY, np.uint32)
        self.windows = np.zeros(shape, np.uint32)
        self.offsets = np.zeros(shape if detailed else 0, np.uint32)
        self.lengths = np.zeros(shape if detailed else 0, np.uint8)
        # An entry enters only with a key below its owner's threshold.
        self.threshold = np.full(owners, EMPTY if keep else 0, np.uint32)
        self._waiting: list[Entries] = []
        self._count = 0
        self._capacity = max(2**17, 4 * owners)

    def admits(self, owners: NDArray[np.int32], keys: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which candidates can still enter."""
        admitted: NDArray[np.bool_] = keys < self.threshold[owners]
        return admitted

    def add(self, entries: Entries) -> None:
        """Add candidates that :meth:`admits` let through."""
        self._waiting.append(entries)
        self._count += len(entries.owners)
        if self._count > self._capacity:
            self.compact()

    def compact(self) -> None:
        """Let the waiting candidates take their places."""
        if not self._count:
            return
        waiting = Entries.join(self._waiting)
        self._waiting, self._count = [], 0
        waiting = waiting.take(np.flatnonzero(self.admits(waiting.owners, waiting.keys)))
        waiting = waiting.take(np.argsort(waiting.owners, kind="stable"))
        touched = np.unique(waiting.owners)
        for low in range(0, len(touched), max(1, BLOCK // self.keep)):
            block = touched[low : low + max(1, BLOCK // self.keep)]
            first, last = np.searchsorted(waiting.owners, [block[0], block[-1] + 1])
            self._place(block, waiting.take(np.arange(first, last)))

    def _place(self, owners: NDArray[np.int32], waiting: Entries) -> None:
        local = np.concatenate(
            [
                np.repeat(np.arange(len(owners)), self.keep),
                np.searchsorted(owners, waiting.owners),
            ]
        )
        keys = np.concatenate([self.keys[owners].ravel(), waiting.keys])
        order = np.argsort(local.astype(np.uint64) << np.uint64(32) | keys, kind="stable")
        local = local[order]
        rank = np.arange(len(local)) - np.searchsorted(local, np.arange(len(owners)))[local]
        order = order[rank < self.keep].reshape(len(owners), self.keep)
        self.keys[owners] = keys[order]
        self.threshold[owners] = self.keys[owners, -1]
        columns: list[tuple[NDArray[Any], NDArray[Any]]] = [(self.windows, waiting.windows)]
        if self.detailed:
            columns += [
                (self.offsets, (waiting.pairs >> COUNT_BITS).astype(np.uint32)),
                (self.lengths, (waiting.pairs & 255).astype(np.uint8)),
            ]
        for kept, new in columns:
            kept[owners] = np.concatenate([kept[owners].ravel(), new])[order]

    def counts(self) -> NDArray[np.int64]:
        """Number of kept entries of each owner."""
        return np.asarray((self.keys < EMPTY).sum(1), np.int64)

    def entries(self, low: int, high: int) -> Entries:
        """The kept entries of owners ``low`` to ``high``, by owner and key. Compact first."""
        rows, columns = np.nonzero(self.keys[low:high] < EMPTY)
        at = (rows + low, columns)
        nothing = np.zeros(len(rows), np.int64)
        return Entries(
            (rows + low).astype(np.int32),
            self.keys[at],
            self.windows[at],
            self.packed(at) if self.detailed else nothing,
        )

    def packed(self, at: Any) -> NDArray[np.int64]:
        """Where the activations of slots lie, as offset << 8 | number of pairs."""
        offsets = self.offsets[at].astype(np.int64)
        return np.asarray(offsets << COUNT_BITS | self.lengths[at], np.int64)

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays that a checkpoint holds."""
        self.compact()
        arrays = {"keys": self.keys, "windows": self.windows, "threshold": self.threshold}
        return arrays | (
            {"offsets": self.offsets, "lengths": self.lengths} if self.detailed else {}
        )
