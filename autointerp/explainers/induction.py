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
    MAX_WORDS,
    NOTHING,
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


@dataclass(frozen=True)
class Settings:
    """``word_price`` is what a word must gain; ``elsewhere`` what a match that does not fire
    is worth in an active window."""

    word_price: float = 0.0015
    elsewhere: float = 0.6
    max_words: int = MAX_WORDS


class Bank:
    """Windows whose masks are kept as bits: one window is a few 64-bit words."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.n = len(windows.ids)
        self._bits: dict[Atom | Condition, Bits] = {}

    def bits(self, feature: Atom | Condition) -> Bits:
        """[n, words] the positions of an atom or of a condition, packed."""
        if feature not in self._bits:
            if isinstance(feature, Condition):
                mask = self.windows.condition(feature)
            else:
                mask = self.windows.atoms([feature])
            self._bits[feature] = packed(mask[:, self.windows.left :])
        return self._bits[feature]

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
    positives = material.positives
    return Candidates(
        [Clause((atom,)) for atom in atoms],
        _credit(positives.bank.stack(atoms), positives.firing, settings.elsewhere),
        material.negatives.stack(atoms).any(axis=-1).astype(np.float32),
    )


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
        false = (negatives.bits(atom) & forbidden[useful]).any(axis=-1)
        gain = credit[useful].mean(axis=1) - false.mean(axis=1)
        kept = np.flatnonzero(gain > 0)
        clauses += [Clause((atom,), (conditions[i],)) for i in useful[kept]]
        credits.append(credit[useful[kept]])
        falses.append(false[kept].astype(np.float32))
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


def cover(candidates: Candidates, settings: Settings) -> list[list[Clause]]:
    """Growing lists of clauses: each adds the candidate that gains most for its words."""
    words = np.array([Pattern((clause,)).words + 1 for clause in candidates.clauses])
    gained = np.zeros(candidates.credit.shape[1], dtype=np.float32)
    spared = np.ones(candidates.false.shape[1], dtype=np.float32)
    chosen: list[Clause] = []
    path: list[list[Clause]] = []
    while True:
        gain = np.maximum(candidates.credit - gained, 0).mean(axis=1)
        gain -= candidates.false @ spared / len(spared)
        worth = gain - settings.word_price * words
        best = int(worth.argmax())
        grown = [*chosen, candidates.clauses[best]]
        if worth[best] <= 0 or merged(grown).words > settings.max_words:
            return path
        chosen = grown
        path.append(chosen)
        gained = np.maximum(gained, candidates.credit[best])
        spared = spared * (1 - candidates.false[best])
        _discount(words, candidates.clauses, chosen[-1])


def _discount(words: NDArray[np.int64], clauses: Sequence[Clause], chosen: Clause) -> None:
    """A candidate that joins the chosen clause costs one word only."""
    for index, clause in enumerate(clauses):
        if words[index] > 1 and _union(chosen, clause) is not None:
            words[index] = len(str(clause.match[0] if clause.conditions == chosen.conditions
                                   else clause.conditions[0].atoms[0]).split())


def proposals(material: Material, settings: Settings) -> list[Pattern]:
    """Patterns of every size, from tokens alone and from all candidates; ``NOTHING`` first."""
    tokens = single_candidates(material, settings, classes=False)
    everything = single_candidates(material, settings, classes=True) + paired_candidates(
        material, settings
    )
    found = [NOTHING]
    for candidates in (tokens, everything):
        if candidates.clauses:
            found += [merged(clauses) for clauses in cover(candidates, settings)]
    return found
