"""What one pass remembers of one coder: counts, reservoirs of windows, and their activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import Hash, ranges, splitmix64
from autointerp.examples.exact import ExactSums
from autointerp.examples.reservoir import COUNT_BITS, EMPTY, Entries, Reservoir
from autointerp.examples.store import GROUPS
from autointerp.latents import SPLITS, AutointerpError

PAIR = np.dtype([("position", "u1"), ("value", "<f4")])
OWNERS_AT_ONCE = 1024
SMALLEST_REWRITE = 2**22  # pairs

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The tokens of a few documents, one after another, and the windows they fall into."""

    tokens: NDArray[np.int32]  # [n]
    window_of: NDArray[np.int32]  # [n]: which of this chunk's windows, −1 outside all
    position: NDArray[np.uint8]  # [n]: in its window
    numbers: NDArray[np.uint32]  # [w]: the windows' numbers in the whole corpus
    hashes: Hash  # [w]: of (seed, document, start)
    splits: NDArray[np.int8]  # [w]
    in_background: NDArray[np.bool_]  # [w]: may still enter the background sample


def window_keys(hashes: Hash) -> NDArray[np.uint32]:
    """The key of each hash in a reservoir: its upper half."""
    return (hashes >> np.uint64(32)).astype(np.uint32)


class PairLog:
    """An append-only file of the (position, activation) pairs of windows."""

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path = path
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(length * PAIR.itemsize)
        self._file.seek(length * PAIR.itemsize)
        self.length = length

    def append(
        self,
        positions: NDArray[np.uint8],
        values: NDArray[np.float32],
        counts: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Write windows of ``counts`` pairs each; returns where each lies, packed."""
        pairs = np.empty(len(positions), PAIR)
        pairs["position"], pairs["value"] = positions, values
        self._file.write(pairs.tobytes())
        if self.length + len(pairs) >= 2**32:
            raise AutointerpError(
                f"{self.path} holds too many activations; collect fewer coders or windows a latent"
            )
        ends = np.cumsum(counts) + self.length
        self.length += len(pairs)
        return (ends - counts) << COUNT_BITS | counts

    def read(self) -> NDArray[np.void]:
        """All pairs written so far, memory-mapped."""
        self.flush()
        if not self.length:
            return np.zeros(0, PAIR)
        return np.memmap(self.path, PAIR, mode="r", shape=(self.length,))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def spans(packed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of pairs of each packed place, and the indices of all their pairs in turn."""
    counts = packed & (2**COUNT_BITS - 1)
    return counts, ranges(packed >> COUNT_BITS, counts)


class CoderTally:
    """Running counts and reservoirs of one coder's latents, in memory independent of tokens."""

    def __init__(self, width: int, keep: tuple[int, int, int, int], log: PairLog) -> None:
        self.width, self.log = width, log
        self.firing_count = np.zeros(width, np.int64)
        self.activation_sum = ExactSums(width)
        self.maximum = np.zeros(width, np.float32)
        self.window_count = np.zeros((width, len(SPLITS)), np.int64)
        self.reservoirs = [Reservoir(width, k) for k in keep]
        self._salts = splitmix64(np.arange(width, dtype=np.uint64))
        self.background = np.zeros(0, BACKGROUND)
        self._live_pairs = 0

    def ingest(
        self,
        chunk: Chunk,
        tokens: NDArray[np.int32],
        latents: NDArray[np.int32],
        values: NDArray[np.float32],
    ) -> None:
        """Count activations: ``tokens`` index the chunk and never leave a window and return."""
        if not len(latents):
            return
        # One sort of (latent, arrival) gathers each latent's windows: tokens arrive row by row.
        bits = len(latents).bit_length()
        keys = latents.astype(np.int64) << bits
        keys |= np.arange(len(latents))
        keys.sort()
        order = keys & (2**bits - 1)
        keys >>= bits
        latents, values, tokens = keys.astype(np.int32), values[order], tokens[order]
        self._count(latents, values)
        windows = chunk.window_of[tokens]
        inside = windows >= 0
        if not inside.all():
            latents, values, windows = latents[inside], values[inside], windows[inside]
            tokens = tokens[inside]
        if len(latents):
            self._windows(chunk, latents, windows, chunk.position[tokens], values)

    def _count(self, latents: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        starts = _boundaries(latents)
        owners = latents[starts]
        self.firing_count[owners] += np.diff(starts, append=len(latents))
        self.activation_sum.add(np.add.reduceat(values, starts, dtype=np.float64), owners)
        peaks = np.maximum.reduceat(values, starts)
        self.maximum[owners] = np.maximum(self.maximum[owners], peaks)

    def _windows(
        self,
        chunk: Chunk,
        latents: NDArray[np.int32],
        windows: NDArray[np.int32],
        positions: NDArray[np.uint8],
        values: NDArray[np.float32],
    ) -> None:
        starts = _boundaries(latents, windows)
        counts = np.diff(starts, append=len(latents))
        owners, local = latents[starts], windows[starts]
        maxima = np.maximum.reduceat(values, starts)
        splits = chunk.splits[local]
        flat = np.bincount(owners * len(SPLITS) + splits, minlength=self.width * len(SPLITS))
        self.window_count += flat.reshape(self.width, len(SPLITS))
        self._add_background(chunk, owners, local, maxima)
        keys = window_keys(splitmix64(chunk.hashes[local] ^ self._salts[owners]))
        ranks = ~maxima.view(np.uint32)  # positive floats order as their bits do
        entering = []
        for reservoir, (split, kind) in zip(self.reservoirs, GROUPS, strict=True):
            key = ranks if kind == "top" else keys
            at = np.flatnonzero(splits == SPLITS.index(split))
            at = at[reservoir.admits(owners[at], key[at])]
            entering.append((reservoir, at, key[at]))
        kept = np.zeros(len(starts), np.bool_)
        for _, at, _ in entering:
            kept[at] = True
        places = np.zeros(len(starts), np.int64)
        pairs = ranges(starts[kept], counts[kept])
        places[kept] = self.log.append(positions[pairs], values[pairs], counts[kept])
        for reservoir, at, key_at in entering:
            numbers = chunk.numbers[local[at]]
            reservoir.add(Entries(owners[at], key_at, numbers, places[at]))

    def _add_background(
        self,
        chunk: Chunk,
        owners: NDArray[np.int32],
        local: NDArray[np.int32],
        maxima: NDArray[np.float32],
    ) -> None:
        at = np.flatnonzero(chunk.in_background[local])
        added = np.empty(len(at), BACKGROUND)
        added["window"] = chunk.numbers[local[at]]
        added["latent"], added["maximum"] = owners[at], maxima[at]
        self.background = np.concatenate([self.background, added])

    def compact(self, background: NDArray[np.uint32]) -> None:
        """Let waiting candidates in and forget background windows that are no longer kept."""
        for reservoir in self.reservoirs:
            reservoir.compact()
        self.background = self.background[np.isin(self.background["window"], background)]

    def wants_rewrite(self) -> bool:
        """Whether most of the pair log belongs to windows that were since replaced."""
        return self.log.length > max(SMALLEST_REWRITE, 3 * self._live_pairs)

    def rewrite(self, path: Path) -> None:
        """Copy the pairs that are still needed to a new log. The old file is left in place."""
        pairs, log = self.log.read(), PairLog(path)
        for reservoir in self.reservoirs:
            for low in range(0, self.width, OWNERS_AT_ONCE):
                block = slice(low, low + OWNERS_AT_ONCE)
                live = reservoir.keys[block] < EMPTY
                counts, at = spans(reservoir.packed(block)[live])
                places = log.append(pairs["position"][at], pairs["value"][at], counts)
                reservoir.offsets[block][live] = (places >> COUNT_BITS).astype(np.uint32)
        self.log.close()
        self.log, self._live_pairs = log, log.length

    def state(self) -> Arrays:
        """Everything but the pair log, for a checkpoint."""
        arrays: Arrays = {
            "firing_count": self.firing_count,
            "activation_sum": self.activation_sum.high,
            "activation_sum_low": self.activation_sum.low,
            "maximum": self.maximum,
            "window_count": self.window_count,
            "background": self.background,
            "log": np.array([self.log.length, self._live_pairs]),
        }
        for number, reservoir in enumerate(self.reservoirs):
            arrays |= {f"reservoir{number}_{k}": v for k, v in reservoir.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        """Take up the state that :meth:`state` gave."""
        self.background = arrays["background"]
        self._live_pairs = int(arrays["log"][1])
        for name in ("firing_count", "maximum", "window_count"):
            getattr(self, name)[...] = arrays[name]
        self.activation_sum.high[...] = arrays["activation_sum"]
        self.activation_sum.low[...] = arrays["activation_sum_low"]
        for number, reservoir in enumerate(self.reservoirs):
            for name in reservoir.state():
                getattr(reservoir, name)[...] = arrays[f"reservoir{number}_{name}"]


BACKGROUND = np.dtype([("window", "<u4"), ("latent", "<i4"), ("maximum", "<f4")])


def _boundaries(*columns: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where a run of equal values (in all columns) begins."""
    new = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        new |= column[1:] != column[:-1]
    return np.concatenate([[0], np.flatnonzero(new) + 1])
