"""Find windows that repeat what an explainer was shown, without comparing all pairs.

A window repeats a shown one if the 16 tokens around its peak occur anywhere in it, or if the
Jaccard index of their sets of 5-grams is at least one half. Token runs are compared by 64-bit
hashes. A table of hash prefixes lets almost everything pass that has nothing to do with what
was shown; only the rest is looked at closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Hashes = NDArray[np.uint64]

SPAN = 16  # tokens around a peak
GRAM = 5
# Slots of a table for each hash in it: few others fall on a slot by chance.
SPARSENESS = 16
# Odd multipliers; each joins two runs into one of the sum of their lengths.
_JOIN = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


def run_hashes(tokens: Tokens, length: int) -> Hashes:
    """A hash of every run of ``length`` tokens: [n, w] → [n, w − length + 1].

    Runs are built from runs of half the length, so 16 tokens take four steps.
    """
    runs = splat(tokens.astype(np.uint64))
    done, joined = 1, runs
    for bit in bin(length)[3:]:
        width = joined.shape[1] - done
        joined = _fold(joined[:, :width], joined[:, done:])
        done *= 2
        if bit == "1":
            width = joined.shape[1] - 1
            joined = _fold(joined[:, :width], runs[:, done : done + width])
            done += 1
    return joined


def splat(values: Hashes) -> Hashes:
    """Spread small numbers over 64 bits."""
    spread: Hashes = (values + _JOIN[1]) * _JOIN[0]
    return spread


def _fold(left: Hashes, right: Hashes) -> Hashes:
    folded = left * _JOIN[2]
    folded ^= folded >> np.uint64(29)
    folded += right
    folded *= _JOIN[0]
    return folded


def peak_spans(tokens: Tokens, peaks: NDArray[np.intp]) -> Tokens:
    """The up to 16 tokens around each peak, kept inside the window: [n, min(16, w)]."""
    width = tokens.shape[1]
    length = min(SPAN, width)
    starts = np.clip(peaks - length // 2, 0, width - length)
    return tokens[np.arange(len(tokens))[:, None], starts[:, None] + np.arange(length)]


def first_of_each(tokens: Tokens, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Indices, ascending, of the windows that are the first with their tokens at the peak."""
    if not len(tokens):
        return np.zeros(0, np.intp)
    spans = peak_spans(tokens, peaks)
    hashes = run_hashes(spans, spans.shape[1])[:, 0]
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    first = np.ones(len(hashes), bool)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return np.sort(order[first])


@dataclass(frozen=True, eq=False)
class Candidates:
    """Windows that may have been shown before, hashed once."""

    spans: Hashes  # [n], of the tokens around the peak
    grams: Hashes  # [n, g], sorted along each row
    distinct: NDArray[np.bool_]  # [n, g], the first of equal grams
    sizes: NDArray[np.int64]  # [n], number of distinct grams

    @classmethod
    def of(cls, tokens: Tokens, peaks: NDArray[np.intp]) -> Candidates:
        spans = peak_spans(tokens, peaks)
        grams, distinct = _gram_sets(tokens)
        return cls(run_hashes(spans, spans.shape[1])[:, 0], grams, distinct, distinct.sum(1))

    def take(self, at: NDArray[np.intp]) -> Candidates:
        return Candidates(self.spans[at], self.grams[at], self.distinct[at], self.sizes[at])


def _gram_sets(tokens: Tokens) -> tuple[Hashes, NDArray[np.bool_]]:
    grams = run_hashes(tokens, min(GRAM, tokens.shape[1]))
    grams.sort(axis=1)
    distinct = np.ones(grams.shape, bool)
    np.not_equal(grams[:, 1:], grams[:, :-1], out=distinct[:, 1:])
    return grams, distinct


class _Table:
    """A set of hashes that answers quickly "surely not in it", else "perhaps"."""

    def __init__(self, hashes: Hashes) -> None:
        bits = max(8, int(SPARSENESS * hashes.size - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._slots = np.zeros(2**bits, bool)
        self._slots[hashes >> self._shift] = True

    def perhaps(self, hashes: Hashes) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._slots[hashes >> self._shift]
        return found


class Shown:
    """Windows that were shown. Tells which candidates repeat one of them."""

    def __init__(self, tokens: Tokens) -> None:
        """``tokens``: [m, w]."""
        self.count = len(tokens)
        if not self.count:
            return
        self._runs = run_hashes(tokens, min(SPAN, tokens.shape[1])).ravel()
        self._run_table = _Table(self._runs)
        self._grams, self._distinct = _gram_sets(tokens)
        self._gram_table = _Table(self._grams)
        self._sizes = self._distinct.sum(1)

    def repeated_by(self, candidates: Candidates) -> NDArray[np.bool_]:
        """Which candidates repeat a shown window: [n]."""
        repeats = np.zeros(len(candidates.spans), bool)
        if not self.count or not len(repeats):
            return repeats
        near = np.flatnonzero(self._run_table.perhaps(candidates.spans))
        if len(near):
            repeats[near] = _contains(self._sorted_runs, candidates.spans[near])
        known = self._gram_table.perhaps(candidates.grams) & candidates.distinct
        enough = 2 * known.sum(1) >= candidates.sizes
        close = np.flatnonzero(enough & ~repeats)
        if len(close):
            repeats[close] = self._near_duplicates(candidates, close)
        return repeats

    def _near_duplicates(
        self, candidates: Candidates, rows: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Whether a shown window has a Jaccard index of at least one half with each row."""
        packed = self._packed
        at, columns = np.nonzero(candidates.distinct[rows])
        grams = candidates.grams[rows[at], columns] & ~self._low_bits
        low = np.searchsorted(packed, grams)
        matches = np.searchsorted(packed, grams | self._low_bits, side="right") - low
        places = np.arange(matches.sum()) + np.repeat(low - np.cumsum(matches) + matches, matches)
        windows = (packed[places] & self._low_bits).astype(np.int64)
        pairs = np.repeat(at, matches) * self.count + windows
        common = np.bincount(pairs, minlength=len(rows) * self.count).reshape(len(rows), -1)
        sizes = candidates.sizes[rows]
        return (3 * common >= sizes[:, None] + self._sizes).any(1)

    @cached_property
    def _sorted_runs(self) -> Hashes:
        return np.sort(self._runs)

    @cached_property
    def _low_bits(self) -> np.uint64:
        return np.uint64(2 ** self.count.bit_length() - 1)

    @cached_property
    def _packed(self) -> Hashes:
        """Every distinct gram of every shown window, sorted, the window in the low bits."""
        windows = np.arange(self.count, dtype=np.uint64)[:, None]
        return np.sort((self._grams & ~self._low_bits | windows)[self._distinct])


def _contains(ascending: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(ascending, hashes), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == hashes
    return found
