"""Find windows that repeat what an explainer was shown, without comparing all pairs.

A window repeats a shown one if the 16 tokens around its peak occur anywhere in it, or if the
Jaccard index of their sets of 5-grams is at least one half. Both need many 5-grams in common,
so a table of short hashes first lets almost everything pass, candidates and shown windows
alike; only the rest is compared, by 64-bit hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import ranges, splitmix64

Tokens = NDArray[np.int32]
Hashes = NDArray[np.uint64]
Keys = NDArray[np.uint32]
Owners = NDArray[np.int64]  # numbers of latents, from 0

SPAN = 16  # tokens around a peak
GRAM = 5
# Slots of a table for each hash in it: few others fall on a slot by chance.
SPARSENESS = 8
_SPREAD, _BASE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd, so invertible modulo 2**64
_KEY_SPREAD, _KEY_BASE = np.uint32(0x9E3779B9), np.uint32(0x85EBCA6B)


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
    length = min(SPAN, tokens.shape[1])
    columns = _span_starts(tokens.shape[1], peaks)[:, None] + np.arange(length)
    (runs,) = run_hashes(np.take_along_axis(tokens, columns, axis=1), length)
    return runs[:, 0]


def _gram_keys(tokens: Tokens) -> Keys:
    """A short hash of every 5-gram: [n, w] → [w − 4, n], one row a position."""
    spread = np.ascontiguousarray(tokens.T).view(np.uint32) * _KEY_SPREAD
    spread ^= spread >> np.uint32(15)
    gram = min(GRAM, len(spread))
    count = len(spread) + 1 - gram
    keys = spread[:count].copy()
    for place in range(1, gram):
        keys *= _KEY_BASE
        keys += spread[place : place + count]
    keys *= _KEY_SPREAD
    return keys


def _enough(keys: Keys) -> NDArray[np.uint8]:
    """With fewer grams in common no other window is near: keys [g, n] → [n].

    Half of those that differ; how many do is counted low, as the distinct ends of their keys.
    """
    ends = np.uint64(1) << (keys >> np.uint32(26)).astype(np.uint64)
    differ: NDArray[np.uint8] = np.bitwise_count(np.bitwise_or.reduce(ends, axis=0))
    return (differ + np.uint8(1)) >> np.uint8(1)


def _counted(known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """How many of the first 0, 1, … grams are known: [g, n] → [g + 1, n]."""
    sums = np.zeros((len(known) + 1, known.shape[1]), np.uint8)
    for grams, more in enumerate(known.view(np.uint8)):  # np.cumsum goes down the columns
        np.add(sums[grams], more, out=sums[grams + 1])
    return sums


@dataclass(frozen=True, eq=False)
class Candidates:
    """Windows that may have been shown before, hashed once."""

    tokens: Tokens  # [n, w]
    starts: NDArray[np.intp]  # [n], where the tokens around the peak begin
    keys: Keys  # [g, n], of the 5-grams
    enough: NDArray[np.uint8]  # [n], fewer of which in common are too few

    @classmethod
    def of(cls, tokens: Tokens, peaks: NDArray[np.intp]) -> Candidates:
        """``tokens`` [n, w] and the positions [n] of the windows' peaks."""
        keys = _gram_keys(tokens)
        return cls(tokens, _span_starts(tokens.shape[1], peaks), keys, _enough(keys))

    def take(self, at: NDArray[np.intp]) -> Candidates:
        return Candidates(self.tokens[at], self.starts[at], self.keys[:, at], self.enough[at])

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(
            np.concatenate([self.tokens, other.tokens]),
            np.concatenate([self.starts, other.starts]),
            np.concatenate([self.keys, other.keys], axis=1),
            np.concatenate([self.enough, other.enough]),
        )


def _salts(owners: Owners) -> Hashes:
    return splitmix64(owners.astype(np.uint64))


def owned(hashes: Hashes, owners: Owners) -> Hashes:
    """The hashes [n] or [n, g] made different for every owner [n]."""
    salts = _salts(owners)
    return hashes ^ (salts if hashes.ndim == 1 else salts[:, None])


def _distinct(grams: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """The grams of each window in order, all but the first of equal ones made 0; and how many
    differ."""
    ordered = np.sort(grams, axis=1)
    again = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:][again] = 0
    return ordered, grams.shape[1] - np.count_nonzero(again, axis=1)


class _Table:
    """A set of keys that answers quickly "surely not in it", else "perhaps"."""

    def __init__(self, keys: Keys) -> None:
        bits = min(31, max(8, int(SPARSENESS * keys.size - 1).bit_length()))
        self._shift = np.uint32(32 - bits)
        self._slots = np.zeros(2**bits, bool)
        self._slots[keys >> self._shift] = True

    def perhaps(self, keys: Keys) -> NDArray[np.bool_]:
        return self._slots.take(keys >> self._shift)


class Shown:
    """Windows that were shown. Tells which candidates repeat one of them."""

    def __init__(self, tokens: Tokens, owners: Owners | None = None) -> None:
        """``tokens`` [m, w]; with ``owners`` [m], each was shown for one latent of several."""
        self._tokens = tokens
        self._owners = np.zeros(len(tokens), np.int64) if owners is None else owners
        self._span_grams = min(SPAN, tokens.shape[1]) - min(GRAM, tokens.shape[1]) + 1
        keys = _gram_keys(tokens)
        self._enough = _enough(keys)
        self._keys = _owned_keys(keys, self._owners)
        self._table = _Table(self._keys)

    def repeated_by(
        self, candidates: Candidates, owners: Owners | None = None
    ) -> NDArray[np.bool_]:
        """Which candidates repeat a window that was shown, for the same owner if those are
        given: [n]."""
        repeats = np.zeros(len(candidates.tokens), bool)
        if not len(self._tokens) or not len(repeats):
            return repeats
        owners = np.zeros(len(repeats), np.int64) if owners is None else owners
        keys = _owned_keys(candidates.keys, owners)
        known = _counted(self._table.perhaps(keys))
        starts, column = candidates.starts, np.arange(len(repeats))
        span = known[starts + self._span_grams, column] - known[starts, column] == self._span_grams
        at = np.flatnonzero(span | (known[-1] >= candidates.enough))
        shown = self._near(keys[:, at])
        if len(shown):
            repeats[at] = self._compare(candidates.take(at), owners[at], shown)
        return repeats

    def _near(self, keys: Keys) -> NDArray[np.intp]:
        """The windows shown that candidates with these keys [g, n] may repeat."""
        known = _counted(_Table(keys).perhaps(self._keys))
        spans = known[self._span_grams :] - known[: -self._span_grams] == self._span_grams
        return np.flatnonzero(spans.any(axis=0) | (known[-1] >= self._enough))

    def _compare(
        self, candidates: Candidates, owners: Owners, shown: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """:meth:`repeated_by` of some windows shown, without a filter."""
        gram = min(GRAM, self._tokens.shape[1])
        runs, theirs = run_hashes(self._tokens[shown], min(SPAN, self._tokens.shape[1]), gram)
        spans, ours = run_hashes(candidates.tokens, min(SPAN, self._tokens.shape[1]), gram)
        spans = spans[np.arange(len(spans)), candidates.starts]
        theirs, their_sizes = _distinct(owned(theirs, self._owners[shown]))
        ours, our_sizes = _distinct(owned(ours, owners))
        one, other, common = _pairs(ours, theirs)
        # |A ∩ B| ≥ ½ |A ∪ B|, and |A ∪ B| = |A| + |B| − |A ∩ B|
        near = 3 * common >= our_sizes[one] + their_sizes[other]
        near |= (runs[other] == spans[one][:, None]).any(axis=1)
        repeats = np.zeros(len(ours), bool)
        repeats[one[near]] = True
        return repeats


def _owned_keys(keys: Keys, owners: Owners) -> Keys:
    """The keys [g, n] made different for every owner [n]."""
    return keys ^ _salts(owners).astype(np.uint32)


def _pairs(ours: Hashes, theirs: Hashes) -> tuple[NDArray[np.int64], ...]:
    """All pairs of rows of ours [n, g] and theirs [m, g] with grams in common: the rows, and how
    many they have. In a row no gram but 0, which stands for none, occurs twice."""
    row, wanted = _by_gram(ours)
    windows, held = _by_gram(theirs)
    low = np.searchsorted(held, wanted)
    matches = np.searchsorted(held, wanted, side="right") - low
    pairs = np.repeat(row, matches) * len(theirs) + windows[ranges(low, matches)]
    found, common = np.unique(pairs, return_counts=True)
    return (*np.divmod(found, len(theirs)), common)


def _by_gram(grams: Hashes) -> tuple[NDArray[np.intp], Hashes]:
    """All grams but 0 in order, and the row of each."""
    rows, columns = np.nonzero(grams)
    held = grams[rows, columns]
    order = np.argsort(held)
    return rows[order], held[order]
