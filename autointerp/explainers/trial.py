"""Labelled windows on which the patterns of one latent are compared."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.patterns import Clause, Lexicon, Mask, Pattern, Windows

Weights = NDArray[np.float64]


class Trial:
    """Windows with their sources, among them ``activating`` ones: the positives.

    ``weights`` [n] are positive for these and negative for the others, and each side sums to one
    half. Of the negatives' half, a share of ``hard_share`` lies on those that are not ``random``.
    """

    def __init__(self, windows: Windows, sources: Sequence[str], hard_share: float) -> None:
        self.windows = windows
        self._groups = [s if s in ("activating", "random") else "hard" for s in sources]
        self._hard_share = hard_share
        self.weights = self._weigh(range(len(sources)))

    def value(self, pattern: Pattern) -> float:
        """Balanced accuracy."""
        return _accuracy(self.weights, self._hit(pattern))

    def hits(self, covers: Sequence[Sequence[Clause]]) -> Mask:
        """[covers, n] the windows that either-ors of the same clauses match in."""
        clauses = {clause for cover in covers for clause in cover}
        found = {clause: self._hit(Pattern((clause,))) for clause in clauses}
        none = np.zeros(len(self.weights), dtype=bool)
        return np.array([np.logical_or.reduce([none, *(found[c] for c in co)]) for co in covers])

    def _hit(self, pattern: Pattern) -> Mask:
        return np.asarray(self.windows.matches(pattern).any(axis=1))

    def best(self, hits: Mask, prices: NDArray[np.float64]) -> int:
        """The cover worth most for its price; the first, and so the smaller, of equals."""
        return _best(self.weights, hits, prices)

    def held_out(self, hits: Mask, prices: NDArray[np.float64]) -> float | None:
        """Balanced accuracy of the best cover on windows that did not choose it.

        One half of the windows chooses, the other values; the mean of both ways round. None where
        a half lacks either label.
        """
        one, other = map(self._weigh, self._halves())
        if not all((half > 0).any() and (half < 0).any() for half in (one, other)):
            return None
        values = [
            _accuracy(valuing, hits[_best(choosing, hits, prices)])
            for choosing, valuing in ((one, other), (other, one))
        ]
        return sum(values) / 2

    def _halves(self) -> tuple[list[int], list[int]]:
        """Places of every second window of each group, and of the rest."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, group in enumerate(self._groups):
            places[group].append(place)
        even, odd = ([p for g in places.values() for p in g[first::2]] for first in (0, 1))
        return even, odd

    def _weigh(self, places: Sequence[int]) -> Weights:
        """[n] weights of these windows, 0 for all others."""
        counts = Counter(self._groups[place] for place in places)
        hard = self._hard_share if counts["hard"] else 0.0
        hard = hard if counts["random"] else 1.0
        shares = {"activating": 1.0, "random": hard - 1.0, "hard": -hard}
        weights = np.zeros(len(self._groups))
        for place in places:
            group = self._groups[place]
            weights[place] = 0.5 * shares[group] / counts[group]
        return weights


def _accuracy(weights: Weights, hit: Mask) -> float:
    return 0.5 + float(weights @ hit)


def _best(weights: Weights, hits: Mask, prices: NDArray[np.float64]) -> int:
    worth = [_accuracy(weights, hit) - price for hit, price in zip(hits, prices, strict=True)]
    return int(np.argmax(worth))


def joined(
    lexicon: Lexicon, parts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]
) -> Windows:
    """Windows of several (token ids, left ids) under one another."""
    widest = max(left.shape[1] for _, left in parts)
    lefts = [
        np.pad(left, ((0, 0), (widest - left.shape[1], 0)), constant_values=-1) for _, left in parts
    ]
    return Windows(lexicon, np.concatenate([ids for ids, _ in parts]), np.concatenate(lefts))
