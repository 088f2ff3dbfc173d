"""Learns a pattern from windows: candidates from where a latent fires, then a greedy cover.

What is maximised is window-level balanced accuracy on EXPLAIN, less a price per word. A window
counts in full only where the pattern matches a token that fires, so that the text stays true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autointerp.patterns import (
    Affix,
    Atom,
    Class,
    Clause,
    Condition,
    Kind,
    Mask,
    Pattern,
    Token,
    Windows,
)

Bits = NDArray[np.uint64]

BASE_CLASSES = (
    "anything", "identifiers", "keywords", "numbers", "lower-case words", "capitalised words",
    "upper-case words", "punctuation", "operators", "opening brackets", "closing brackets",
    "quotation marks", "newlines", "indentation", "new words",
)  # fmt: skip
CONTEXT_CLASSES = ("identifiers", "numbers", "capitalised words", "punctuation", "newlines")
# How many tokens stand as candidates in each role, the commonest at firing positions first.
SINGLE_TOKENS = 250
PAIRED_TOKENS = 12
CONTEXT_TOKENS: dict[Kind, int] = {
    "after": 30,
    "two tokens after": 8,
    "on its line after": 16,
    "somewhere after": 12,
}
KEPT_PAIRS = 400
AFFIX_LENGTHS = (2, 3, 4)
AFFIXED = 120
CAUTION = 3.0


@dataclass(frozen=True)
class Settings:
    """``word_price`` is what a word must gain; ``elsewhere`` what a match that does not fire
    is worth in an active window."""

    word_price: float
    elsewhere: float
    max_words: int


class Bank:
    """Windows whose masks are kept as bits: one window is a few 64-bit words."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.n = len(windows.ids)
        self._bits: dict[Atom | Condition, Bits] = {}
        self._order = np.argsort(windows.ids, axis=None, kind="stable")
        self._sorted = windows.ids.ravel()[self._order]

    def bits(self, feature: Atom | Condition) -> Bits:
        """[n, words] the positions of an atom or of a condition, packed."""
        if feature not in self._bits:
            if not isinstance(feature, Condition):
                mask = self._found(feature)
            elif feature.atoms:
                mask = self.windows.standing(feature.kind, self._found(feature.atoms[0]))
            else:
                mask = self.windows.condition(feature)
            self._bits[feature] = packed(mask[:, self.windows.left :])
        return self._bits[feature]

    def _found(self, atom: Atom) -> Mask:
        """[n, left + window] where the atom is: a token's places are looked up, not sought."""
        if not isinstance(atom, Token):
            return self.windows.atoms([atom])
        mask = np.zeros(self.windows.ids.shape, dtype=bool)
        for token_id in self.windows.lexicon.ids(atom.text):
            low, high = np.searchsorted(self._sorted, [token_id, token_id + 1])
            mask.ravel()[self._order[low:high]] = True
        return mask

    def stack(self, features: Sequence[Atom | Condition]) -> Bits:
        """[features, n, words]"""
        return np.stack([self.bits(feature) for feature in features])


def packed(mask: Mask) -> Bits:
    """[n, window] as bits in 64-bit words, padded with zeros."""
    padded = np.pad(mask, ((0, 0), (0, -mask.shape[1] % 64)))
    return np.packbits(padded, axis=1).view(np.uint64)


@dataclass(frozen=True)
class Part:
    """Some windows of a bank."""

    bank: Bank
    rows: NDArray[np.intp]

    def bits(self, feature: Atom | Condition) -> Bits:
        """[rows, words] as the bank's."""
        return self.bank.bits(feature)[self.rows]

    def stack(self, features: Sequence[Atom | Condition]) -> Bits:
        """[features, rows, words]"""
        return np.stack([self.bits(feature) for feature in features])


@dataclass(frozen=True)
class Positives:
    """Active windows: ``firing`` says at which tokens (all of them where that is unknown)."""

    bank: Bank
    firing: Bits  # [n, words]


@dataclass(frozen=True)
class Material:
    """What a latent's pattern is learned from."""

    positives: Positives
    negatives: Part
    contexts: dict[Kind, list[str]]
    tokens: list[str]


def firing_contexts(windows: Windows, firing: Mask) -> tuple[list[str], dict[Kind, list[str]]]:
    """The tokens that fire, commonest first, and those that stand before them, by kind."""
    vocabulary = windows.lexicon.vocabulary
    rows, columns = np.nonzero(firing)
    places = columns + windows.left

    def commonest(ids: Iterable[int], least: int = 1) -> list[str]:
        counts = Counter(vocabulary[i] for i in ids if i >= 0)
        return [text for text, count in counts.most_common() if count >= least]

    def before(kind: Kind) -> Iterator[int]:
        for row, place in zip(rows, places, strict=True):
            if kind == "after":
                yield from windows.ids[row, max(place - 1, 0) : place]
            elif kind == "two tokens after":
                yield from windows.ids[row, max(place - 2, 0) : max(place - 1, 0)]
            else:
                nearest = 12 if kind == "on its line after" else place
                yield from set(windows.ids[row, max(place - nearest, 0) : place].tolist())

    contexts = {kind: commonest(before(kind), 2)[:limit] for kind, limit in CONTEXT_TOKENS.items()}
    return commonest(windows.ids[rows, places])[:SINGLE_TOKENS], contexts


@dataclass(frozen=True)
class Candidates:
    """Clauses of one atom and at most one condition of one atom, and the windows they hit."""

    clauses: list[Clause]
    credit: NDArray[np.float32]  # [candidates, positives]
    false: NDArray[np.float32]  # [candidates, negatives], 0 or 1

    def __add__(self, other: Candidates) -> Candidates:
        return Candidates(
            self.clauses + other.clauses,
            np.concatenate([self.credit, other.credit]),
            np.concatenate([self.false, other.false]),
        )


def _credit(hits: Bits, firing: Bits, elsewhere: float) -> NDArray[np.float32]:
    anywhere = hits.any(axis=-1)
    true = (hits & firing).any(axis=-1)
    return np.where(true, np.float32(1), elsewhere * anywhere).astype(np.float32)


def single_candidates(material: Material, settings: Settings, classes: bool) -> Candidates:
    """Tokens, and classes if asked, without a condition."""
    atoms: list[Atom] = [Token(text) for text in material.tokens]
    if classes:
        atoms += [Class(name) for name in BASE_CLASSES[1:]]
        atoms += _affixes(material.tokens)
    positives = material.positives
    return Candidates(
        [Clause((atom,)) for atom in atoms],
        _credit(positives.bank.stack(atoms), positives.firing, settings.elsewhere),
        _hit(material.negatives.stack(atoms)),
    )


def _affixes(tokens: Sequence[str]) -> list[Affix]:
    """What several of the firing tokens have in common at an end; the most shared first."""
    shared: Counter[Affix] = Counter()
    for text in tokens:
        core = text.strip()
        shared.update({Affix("containing", core)} if len(core) > 2 else ())
        for length in AFFIX_LENGTHS:
            if len(text) > length and text[:length].strip():
                shared[Affix("starting with", text[:length])] += 1
            if len(text) > length and text[-length:].strip():
                shared[Affix("ending with", text[-length:])] += 1
    return [affix for affix, count in shared.most_common(AFFIXED) if count > 1]


def _hit(bits: Bits) -> NDArray[np.float32]:
    """1 for each window with a hit, else 0: [candidates, windows]."""
    hit: NDArray[np.float32] = np.any(bits, axis=-1).astype(np.float32)
    return hit


def _conditions(material: Material) -> list[Condition]:
    conditions = [
        Condition(kind, (Token(text),))
        for kind, texts in material.contexts.items()
        for text in texts
    ]
    conditions += [Condition("after", (Class(name),)) for name in CONTEXT_CLASSES]
    return [*conditions, Condition("at the start of a line"), Condition("inside a word")]


def paired_candidates(material: Material, settings: Settings) -> Candidates:
    """An atom under a condition: the ``KEPT_PAIRS`` that separate best on their own."""
    atoms: list[Atom] = [Token(text) for text in material.tokens[:PAIRED_TOKENS]]
    atoms += [Class(name) for name in BASE_CLASSES]
    conditions = _conditions(material)
    positives, negatives = material.positives, material.negatives
    required = positives.bank.stack(conditions)
    forbidden = negatives.stack(conditions)
    clauses: list[Clause] = []
    credits, falses = [], []
    for atom in atoms:
        credit = _credit(positives.bank.bits(atom) & required, positives.firing, settings.elsewhere)
        useful = np.flatnonzero(credit.sum(axis=1) >= 2)
        false = _hit(negatives.bits(atom) & forbidden[useful])
        gain = credit[useful].mean(axis=1) - false.mean(axis=1)
        kept = np.flatnonzero(gain > 0)
        clauses += [Clause((atom,), (conditions[i],)) for i in useful[kept]]
        credits.append(credit[useful[kept]])
        falses.append(false[kept])
    credit, false = np.concatenate(credits), np.concatenate(falses)
    best = np.argsort(false.mean(axis=1) - credit.mean(axis=1), kind="stable")[:KEPT_PAIRS]
    return Candidates([clauses[i] for i in best], credit[best], false[best])


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
