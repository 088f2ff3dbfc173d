"""Find windows that repeat what an explainer was shown, without comparing all pairs.

A window repeats a shown one if the 16 tokens around its peak occur anywhere in it, or if the
Jaccard index of their sets of 5-grams is at least one half. Token runs are compared by 64-bit
hashes. A table of hash prefixes lets almost everything pass that has nothing to do with what
was shown; only the rest is looked at closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from autointerp.examples.documents import ranges, splitmix64

Tokens = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Owners = NDArray[np.int64]  # numbers of latents, from 0

SPAN = 16  # tokens around a peak
GRAM = 5
# Slots of a table for each hash in it: few others fall on a slot by chance.
SPARSENESS = 8
_SPREAD, _BASE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd, so invertible modulo 2**64


def _powers(base: int, count: int) -> Hashes:
    return np.array([pow(base, power, 2**64) for power in range(count)], np.uint64)


@cache
def _scales(width: int) -> tuple[Hashes, Hashes]:
    """Powers of the base, and of its inverse."""
    return _powers(_BASE, width), _powers(pow(_BASE, -1, 2**64), width)


@cache
def _spreads(bits: int) -> Hashes:
    """A number for every token id of so many bits.

    Not linear in the ids, or similar runs might collide; and none is 0, or so would be the hash
    of a run of it, which stands for none.
    """
    spread = np.arange(1, 2**bits + 1, dtype=np.uint64) * np.uint64(_SPREAD)
    return spread ^ spread >> np.uint64(32)


def run_hashes(tokens: Tokens, *lengths: int) -> list[Hashes]:
    """Hashes of every run of some lengths: [n, w] → one [n, w − length + 1] each.

    A run's hash is a polynomial in its tokens modulo 2**64, taken as the difference of two
    prefix sums (Karp and Rabin, "Efficient randomized pattern-matching algorithms", 1987).
    """
    up, down = _scales(tokens.shape[1])
    sums = np.zeros((len(tokens), tokens.shape[1] + 1), np.uint64)
    spread = _spreads(int(tokens.max(initial=0)).bit_length())[tokens]
    spread *= up
    np.cumsum(spread, axis=1, out=sums[:, 1:])
    return [(sums[:, n:] - sums[:, :-n]) * down[: tokens.shape[1] + 1 - n] for n in lengths]


def _span_starts(width: int, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where the up to 16 tokens around each peak begin; they stay inside the window."""
    length = min(SPAN, width)
    return np.clip(peaks - length // 2, 0, width - length)


def first_of_each(hashes: Hashes) -> NDArray[np.intp]:
    """Indices, ascending, of the first of equal entries."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    first = np.ones(len(hashes), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return np.sort(order[first])


def span_hashes(tokens: Tokens, peaks: NDArray[np.intp]) -> Hashes:
    """A hash of the tokens around each peak: [n]."""
    (runs,) = run_hashes(tokens, min(SPAN, tokens.shape[1]))
    return runs[np.arange(len(runs)), _span_starts(tokens.shape[1], peaks)]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Windows that may have been shown before, hashed once."""

    spans: Hashes  # [n], of the tokens around the peak
    starts: NDArray[np.intp]  # [n], where those begin
    grams: Hashes  # [n, g]
    sizes: NDArray[np.int64]  # [n], number of distinct grams

    @classmethod
    def of(cls, tokens: Tokens, peaks: NDArray[np.intp]) -> Candidates:
        """``tokens`` [n, w] and the positions [n] of the windows' peaks."""
        width = tokens.shape[1]
        runs, grams = run_hashes(tokens, min(SPAN, width), min(GRAM, width))
        starts = _span_starts(width, peaks)
        return cls(runs[np.arange(len(runs)), starts], starts, grams, _distinct(grams)[1])

    def take(self, at: NDArray[np.intp]) -> Candidates:
        return Candidates(self.spans[at], self.starts[at], self.grams[at], self.sizes[at])

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(
            np.concatenate([self.spans, other.spans]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.grams, other.grams]),
            np.concatenate([self.sizes, other.sizes]),
        )


def owned(hashes: Hashes, owners: Owners | None) -> Hashes:
    """The hashes [n] or [n, g] made different for every owner [n]."""
    if owners is None:
        return hashes
    salts = splitmix64(owners.astype(np.uint64))
    return hashes ^ (salts if hashes.ndim == 1 else salts[:, None])


def _distinct(grams: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """The grams of each window in order, all but the first of equal ones made 0; and how many
    differ."""
    ordered = np.sort(grams, axis=1)
    again = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:][again] = 0
    return ordered, grams.shape[1] - np.count_nonzero(again, axis=1)


class _Table:
    """A set of hashes that answers quickly "surely not in it", else "perhaps"."""

    def __init__(self, hashes: Hashes, sparseness: int) -> None:
        bits = max(8, int(sparseness * hashes.size - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(2**bits, bool)
        self._slots[self._places(hashes)] = True

    def perhaps(self, hashes: Hashes) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._slots[self._places(hashes)]
        return found

    def _places(self, hashes: Hashes) -> NDArray[np.int64]:
        # Indexing with unsigned numbers would copy them once more.
        return (hashes >> self._shift).view(np.int64)


class Shown:
    """Windows that were shown. Tells which candidates repeat one of them."""

    def __init__(self, tokens: Tokens, owners: Owners | None = None) -> None:
        """``tokens`` [m, w]; with ``owners`` [m], each was shown for one latent of several."""
        self._tokens = tokens
        if len(tokens):
            (grams,) = run_hashes(tokens, min(GRAM, tokens.shape[1]))
            self._grams = owned(grams, owners)
            self._table = _Table(self._grams, SPARSENESS)

    def repeated_by(
        self, candidates: Candidates, owners: Owners | None = None
    ) -> NDArray[np.bool_]:
        """Which candidates repeat a window that was shown, for the same owner if those are
        given: [n]."""
        repeats = np.zeros(len(candidates.spans), bool)
        if not len(self._tokens) or not len(repeats):
            return repeats
        known = self._table.perhaps(owned(candidates.grams, owners))
        enough = 2 * np.count_nonzero(known, axis=1) >= candidates.sizes
        at = np.flatnonzero(enough | self._span_known(known, candidates.starts))
        if len(at):
            mine = None if owners is None else owners[at]
            repeats[at] = self._compare(candidates.take(at), mine)
        return repeats

    def _span_known(self, known: NDArray[np.bool_], starts: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether all grams of the tokens around the peak are known."""
        width = self._tokens.shape[1]
        length = min(SPAN, width) - min(GRAM, width) + 1
        runs = sliding_window_view(known, length, axis=1)
        return np.asarray(runs[np.arange(len(starts)), starts].all(axis=1), bool)

    def _compare(self, candidates: Candidates, owners: Owners | None) -> NDArray[np.bool_]:
        """:meth:`repeated_by` without a filter, for few candidates."""
        ours, theirs, common = self._pairs(owned(candidates.grams, owners))
        shown, place = np.unique(theirs, return_inverse=True)
        runs, grams = run_hashes(
            self._tokens[shown],
            min(SPAN, self._tokens.shape[1]),
            min(GRAM, self._tokens.shape[1]),
        )
        # |A ∩ B| ≥ ½ |A ∪ B|, and |A ∪ B| = |A| + |B| − |A ∩ B|
        near = 3 * common >= candidates.sizes[ours] + _distinct(grams)[1][place]
        near |= (runs[place] == candidates.spans[ours][:, None]).any(axis=1)
        repeats = np.zeros(len(candidates.spans), bool)
        repeats[ours[near]] = True
        return repeats

    def _pairs(self, grams: Hashes) -> tuple[NDArray[np.int64], ...]:
        """All pairs of a candidate [n, g] and a shown window that have grams in common: the
        candidate, the window, and how many distinct ones."""
        wanted, _ = _distinct(grams)
        ours, column = np.nonzero(wanted)
        wanted = wanted[ours, column]
        theirs, column = np.nonzero(_Table(wanted, 8 * SPARSENESS).perhaps(self._grams))
        held = self._grams[theirs, column]
        order = np.lexsort((theirs, held))
        held, theirs = held[order], theirs[order]
        first = np.ones(len(held), bool)
        first[1:] = (held[1:] != held[:-1]) | (theirs[1:] != theirs[:-1])
        held, theirs = held[first], theirs[first]
        low = np.searchsorted(held, wanted)
        matches = np.searchsorted(held, wanted, side="right") - low
        windows = theirs[ranges(low, matches)]
        pairs = np.repeat(ours, matches) * len(self._tokens) + windows
        found, common = np.unique(pairs, return_counts=True)
        return (*np.divmod(found, len(self._tokens)), common)
