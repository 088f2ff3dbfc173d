"""Learns a pattern from windows: candidates from where a latent fires, then a greedy cover.

What is maximised is window-level balanced accuracy on EXPLAIN, less a price per word. A window
counts in full only where the pattern matches a token that fires, so that the text stays true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.explainers.candidates import (
    Candidates,
    Material,
    Settings,
    paired_candidates,
    single_candidates,
)
from autointerp.patterns import Atom, Clause, Condition, Pattern

CAUTION = 3.0  # what an inactive window costs a cautious search, in active ones


def merged(clauses: Sequence[Clause]) -> Pattern:
    """The same either-or in fewer words: sets joined where that changes nothing."""
    joined: list[Clause] = []
    for clause in clauses:
        for index, earlier in enumerate(joined):
            union = _union(earlier, clause)
            if union is not None:
                joined[index] = union
                break
        else:
            joined.append(clause)
    return Pattern(tuple(joined))


def _union(one: Clause, other: Clause) -> Clause | None:
    """One clause for either of two of the same shape, or None if none says exactly that."""
    if one.exceptions != other.exceptions:
        return None
    if one.conditions == other.conditions:
        return replace(one, match=_joined(one.match, other.match))
    if one.match != other.match or len(one.conditions) != 1 or len(other.conditions) != 1:
        return None
    ours, theirs = one.conditions[0], other.conditions[0]
    if ours.kind != theirs.kind:
        return None
    return replace(one, conditions=(Condition(ours.kind, _joined(ours.atoms, theirs.atoms)),))


def _joined(one: tuple[Atom, ...], other: tuple[Atom, ...]) -> tuple[Atom, ...]:
    return one + tuple(atom for atom in other if atom not in one)


def cover(candidates: Candidates, settings: Settings, caution: float = 1.0) -> list[list[Clause]]:
    """Growing lists of clauses: each adds the candidate that gains most for its words.

    ``caution`` multiplies the cost of an inactive window that is hit.
    """
    prices = _Prices(candidates.clauses)
    gained = np.zeros(candidates.credit.shape[1], dtype=np.float32)
    spared = np.ones(candidates.false.shape[1], dtype=np.float32)
    chosen: list[Clause] = []
    path: list[list[Clause]] = []
    while True:
        gain = np.maximum(candidates.credit - gained, 0).mean(axis=1)
        gain -= caution * (candidates.false @ spared) / max(len(spared), 1)
        worth = gain - settings.word_price * prices.words
        best = int(worth.argmax())
        grown = [*chosen, candidates.clauses[best]]
        if worth[best] <= 0 or merged(grown).words > settings.max_words:
            return path
        chosen = grown
        path.append(chosen)
        gained = np.maximum(gained, candidates.credit[best])
        spared = spared * (1 - candidates.false[best])
        prices.choose(chosen[-1])


class _Prices:
    """What each candidate adds to the text in words, given what was chosen."""

    def __init__(self, clauses: Sequence[Clause]) -> None:
        self.words = np.array([Pattern((clause,)).words + 1 for clause in clauses])
        self._shapes: dict[object, list[tuple[int, int]]] = {}
        for index, clause in enumerate(clauses):
            for shape, grown in _shapes(clause):
                self._shapes.setdefault(shape, []).append((index, len(str(grown).split())))

    def choose(self, chosen: Clause) -> None:
        """What joins the chosen clause costs only the atom that it adds."""
        for shape, _ in _shapes(chosen):
            for index, words in self._shapes.pop(shape, []):
                self.words[index] = min(words, self.words[index])


def _shapes(clause: Clause) -> list[tuple[object, Atom]]:
    """What a candidate must share with another for ``_union``, and the atom that then grows."""
    shapes: list[tuple[object, Atom]] = [(clause.conditions, clause.match[0])]
    for condition in clause.conditions:
        if condition.atoms:
            shapes.append(((clause.match, condition.kind), condition.atoms[0]))
    return shapes


@dataclass(frozen=True)
class Place:
    """A cover among ``Proposals``: which search found it, and how many clauses it has."""

    search: int
    clauses: int


class Proposals:
    """Covers of every size, the empty one first, and where each was found.

    Tokens alone overfit least; a cautious cover builds a rule of narrow clauses where a greedy
    one starts with a wide clause that it cannot take back.
    """

    def __init__(self, material: Material, settings: Settings) -> None:
        tokens = single_candidates(material, settings, classes=False)
        singles = single_candidates(material, settings, classes=True)
        everything = singles + paired_candidates(material, settings)
        searches = ((tokens, 1.0), (everything, 1.0), (everything, CAUTION))
        self._paths = [
            cover(candidates, settings, caution) if candidates.clauses else []
            for candidates, caution in searches
        ]
        self.covers: list[list[Clause]] = [[]]
        self.places = [Place(0, 0)]
        for search, path in enumerate(self._paths):
            self.covers += path
            self.places += [Place(search, len(clauses)) for clauses in path]

    def at(self, place: Place) -> list[Clause]:
        """The cover there, or the longest shorter one of the same search."""
        path = self._paths[place.search][: place.clauses]
        return path[-1] if path else []
