"""The clauses that may explain a latent, from where it fires, and the windows that they hit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.banks import Bank, Bits, Part
from autointerp.patterns import Affix, Atom, Class, Clause, Condition, Kind, Mask, Token, Windows

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


@dataclass(frozen=True)
class Settings:
    """``word_price`` is what a word must gain; ``elsewhere`` what a match that does not fire
    is worth in an active window."""

    word_price: float
    elsewhere: float
    max_words: int


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
