"""Find windows that repeat what an explainer was shown, without comparing all pairs.

A window repeats a shown one if the 16 tokens around its peak occur anywhere in it, or if the
Jaccard index of their sets of 5-grams is at least one half. Token runs are compared by 64-bit
hashes. A table of hash prefixes lets almost everything pass that has nothing to do with what
was shown; only the rest is looked at closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import splitmix64

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


def run_hashes(tokens: Tokens, *lengths: int) -> list[Hashes]:
    """Hashes of every run of some lengths: [n, w] → one [n, w − length + 1] each.

    A run's hash is a polynomial in its tokens modulo 2**64, taken as the difference of two
    prefix sums (Karp and Rabin, "Efficient randomized pattern-matching algorithms", 1987).
    """
    up, down = _scales(tokens.shape[1])
    sums = np.zeros((len(tokens), tokens.shape[1] + 1), np.uint64)
    spread = tokens.astype(np.uint64)
    spread *= np.uint64(_SPREAD)
    # Without this the sum would be linear in the token ids, and similar runs might collide.
    spread ^= spread >> np.uint64(32)
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
    grams: Hashes  # [n, g], sorted along each row
    distinct: NDArray[np.bool_]  # [n, g], the first of equal grams
    sizes: NDArray[np.int64]  # [n], number of distinct grams

    @classmethod
    def of(cls, tokens: Tokens, peaks: NDArray[np.intp]) -> Candidates:
        """``tokens`` [n, w] and the positions [n] of the windows' peaks."""
        width = tokens.shape[1]
        runs, grams = run_hashes(tokens, min(SPAN, width), min(GRAM, width))
        spans = runs[np.arange(len(runs)), _span_starts(width, peaks)]
        return cls(spans, *_sets(grams))

    def take(self, at: NDArray[np.intp]) -> Candidates:
        return Candidates(self.spans[at], self.grams[at], self.distinct[at], self.sizes[at])

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(
            np.concatenate([self.spans, other.spans]),
            np.concatenate([self.grams, other.grams]),
            np.concatenate([self.distinct, other.distinct]),
            np.concatenate([self.sizes, other.sizes]),
        )


def owned(hashes: Hashes, owners: Owners | None) -> Hashes:
    """The hashes [n] or [n, g] made different for every owner [n]."""
    if owners is None:
        return hashes
    salts = splitmix64(owners.astype(np.uint64))
    return hashes ^ (salts if hashes.ndim == 1 else salts[:, None])


def _sets(grams: Hashes) -> tuple[Hashes, NDArray[np.bool_], NDArray[np.int64]]:
    """Sort the grams of each window; tell the first of equal ones, and how many differ."""
    grams.sort(axis=1)
    distinct = np.ones(grams.shape, bool)
    np.not_equal(grams[:, 1:], grams[:, :-1], out=distinct[:, 1:])
    return grams, distinct, distinct.sum(1)


class _Table:
    """A set of hashes that answers quickly "surely not in it", else "perhaps"."""

    def __init__(self, hashes: Hashes) -> None:
        bits = max(8, int(SPARSENESS * hashes.size - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(2**bits, bool)
        self._slots[self._places(hashes)] = True

    def perhaps(self, hashes: Hashes) -> NDArray[np.bool_]:
        return self._slots[self._places(hashes)]

    def _places(self, hashes: Hashes) -> NDArray[np.int64]:
        # Indexing with unsigned numbers would copy them once more.
        return (hashes >> self._shift).view(np.int64)


class Shown:
    """Windows that were shown. Tells which candidates repeat one of them."""

    def __init__(self, tokens: Tokens, owners: Owners | None = None) -> None:
        """``tokens`` [m, w]; with ``owners`` [m], each was shown for one latent of several."""
        self.count = len(tokens)
        if not self.count:
            return
        width = tokens.shape[1]
        runs, grams = run_hashes(tokens, min(SPAN, width), min(GRAM, width))
        grams, self._distinct, self._sizes = _sets(grams)
        self._runs, self._grams = owned(runs, owners), owned(grams, owners)
        self._run_table, self._gram_table = _Table(self._runs), _Table(self._grams)

    def repeated_by(
        self, candidates: Candidates, owners: Owners | None = None
    ) -> NDArray[np.bool_]:
        """Which candidates repeat a window that was shown, for the same owner if those are
        given: [n]."""
        repeats = np.zeros(len(candidates.spans), bool)
        if not self.count or not len(repeats):
            return repeats
        spans, grams = owned(candidates.spans, owners), owned(candidates.grams, owners)
        near = np.flatnonzero(self._run_table.perhaps(spans))
        if len(near):
            repeats[near] = _contains(self._sorted_runs, spans[near])
        known = self._gram_table.perhaps(grams) & candidates.distinct
        enough = 2 * known.sum(1) >= candidates.sizes
        close = np.flatnonzero(enough & ~repeats)
        if len(close):
            repeats[close] = self._near_duplicates(
                grams[close], known[close], candidates.sizes[close]
            )
        return repeats

    def _near_duplicates(
        self, grams: Hashes, known: NDArray[np.bool_], sizes: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which windows have a Jaccard index of at least one half with a shown one.

        ``grams`` [n, g]; ``known`` marks those that may be in a shown window; ``sizes`` [n]
        counts the distinct ones of each window.
        """
        at = np.nonzero(known)[0]
        wanted = grams[known]
        packed, grams = self._packed(wanted), wanted & ~self._low_bits
        low = np.searchsorted(packed, grams)
        matches = np.searchsorted(packed, grams | self._low_bits, side="right") - low
        places = np.arange(matches.sum()) + np.repeat(low - np.cumsum(matches) + matches, matches)
        windows = (packed[places] & self._low_bits).astype(np.int64)
        pairs, common = np.unique(np.repeat(at, matches) * self.count + windows, return_counts=True)
        ours, theirs = np.divmod(pairs, self.count)
        # |A ∩ B| ≥ ½ |A ∪ B|, and |A ∪ B| = |A| + |B| − |A ∩ B|
        near = np.zeros(len(sizes), bool)
        near[ours[3 * common >= sizes[ours] + self._sizes[theirs]]] = True
        return near

    @cached_property
    def _sorted_runs(self) -> Hashes:
        return np.sort(self._runs, axis=None)

    @cached_property
    def _low_bits(self) -> np.uint64:
        return np.uint64(2 ** self.count.bit_length() - 1)

    def _packed(self, wanted: Hashes) -> Hashes:
        """The distinct grams of shown windows that may be wanted ones, sorted, the window in
        the low bits."""
        near = _Table(wanted).perhaps(self._grams) & self._distinct
        windows = np.nonzero(near)[0].astype(np.uint64)
        return np.sort(self._grams[near] & ~self._low_bits | windows)


def _contains(ascending: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(ascending, hashes), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == hashes
    return found
