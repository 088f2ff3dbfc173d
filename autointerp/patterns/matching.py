"""Where patterns match in windows of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autointerp.patterns.grammar import Atom, Class, Clause, Condition, Kind, Pattern, Token
from autointerp.patterns.kept import Kept

MASK_BYTES = 2**26  # of what atoms accept: a run's latents ask for ever new affixes
Mask = NDArray[np.bool_]
Test = Callable[[str], bool]


class Lexicon:
    """A vocabulary's texts, and which of them an atom accepts. The last entry stands for none."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self._ids: dict[str, list[int]] = {}
        for index, text in enumerate(vocabulary):
            self._ids.setdefault(text, []).append(index)
        self._masks: Kept[Atom | Test, Mask] = Kept(MASK_BYTES)

    def ids(self, text: str) -> list[int]:
        """The ids of all tokens of this text."""
        return self._ids.get(text, [])

    def alike(self, text: str) -> list[int]:
        """The ids of all other tokens that differ from this text in case and blanks alone."""
        own = self.ids(text)
        return [index for index in self._cores.get(core(text), []) if index not in own]

    @cached_property
    def _cores(self) -> dict[str, list[int]]:
        cores: dict[str, list[int]] = {}
        for index, text in enumerate(self.vocabulary):
            cores.setdefault(core(text), []).append(index)
        return cores

    def mask(self, atom: Atom) -> Mask:
        """[vocabulary + 1] whether the atom accepts each token."""
        if isinstance(atom, Token):
            mask = np.zeros(len(self.vocabulary) + 1, dtype=bool)
            mask[self.ids(atom.text)] = True
            return mask
        return self._kept(atom, atom.accepts)

    def where(self, test: Test) -> Mask:
        """[vocabulary + 1] which texts have a property that is no atom."""
        return self._kept(test, test)

    def _kept(self, key: Atom | Test, test: Test) -> Mask:
        return self._masks.get(key, lambda: np.array([*map(test, self.vocabulary), False]))


def core(token: str) -> str:
    """A token without the blanks around it, in lower case; blank tokens stay as they are."""
    return token.strip().lower() or token


def _word_character(character: str) -> bool:
    return character.isalnum() or character == "_"


def _begins_in_word(text: str) -> bool:
    return _word_character(text[:1])


def _ends_in_word(text: str) -> bool:
    return _word_character(text[-1:])


def _ends_line(text: str) -> bool:
    return "\n" in text and not text[text.rfind("\n") :].strip()


class Windows:
    """Windows of equal length with what stands before them, ready for patterns.

    Args:
        lexicon: of the vocabulary that the ids index.
        token_ids: int [n, window].
        left_ids: int [n, left], −1 where there is no token.
    """

    def __init__(
        self, lexicon: Lexicon, token_ids: NDArray[np.int32], left_ids: NDArray[np.int32]
    ) -> None:
        self.lexicon = lexicon
        self.left = left_ids.shape[1]
        # −1 reads a lexicon's last entry; numpy looks up fastest by its own index type.
        self.ids = np.concatenate([left_ids, token_ids], axis=1).astype(np.intp)
        self._places: dict[Kind, Mask] = {}

    def matches(self, pattern: Pattern) -> Mask:
        """[n, window] at which tokens the pattern matches."""
        found = np.zeros(self.ids.shape, dtype=bool)
        for clause in pattern.clauses:
            found |= self.clause(clause)
        return found[:, self.left :]

    def clause(self, clause: Clause) -> Mask:
        """[n, left + window] at which tokens the clause matches."""
        found = self.atoms(clause.match)
        for condition in clause.conditions:
            found &= self.condition(condition)
        for condition in clause.exceptions:
            found &= ~self.condition(condition)
        return found

    def atoms(self, atoms: Sequence[Atom]) -> Mask:
        """[n, left + window] where a token is one of the atoms."""
        accepted = np.logical_or.reduce([self.lexicon.mask(atom) for atom in atoms])
        return np.asarray(accepted[self.ids])

    def condition(self, condition: Condition) -> Mask:
        """[n, left + window] where the condition holds."""
        if not condition.atoms:
            if condition.kind not in self._places:
                self._places[condition.kind] = self._place(condition.kind)
            return self._places[condition.kind]
        return self.standing(condition.kind, self.atoms(condition.atoms))

    def standing(self, kind: Kind, found: Mask) -> Mask:
        """[n, left + window] what stands so to ``found`` [n, left + window]."""
        if kind == "after":
            return _shifted(found, 1)
        if kind == "two tokens after":
            return _shifted(found, 2)
        if kind == "before":
            return _shifted(found, -1)
        if kind == "somewhere after":
            return _shifted(np.logical_or.accumulate(found, axis=1), 1)
        return self._on_line_after(found)

    def _on_line_after(self, found: Mask) -> Mask:
        newlines = self.atoms([Class("newlines")])
        return _shifted(_last(found) > _last(newlines), 1)

    def _place(self, kind: Kind) -> Mask:
        real = self.ids >= 0
        if kind == "at the start of the text":
            return real & ~_shifted(real, 1)
        if kind == "inside a word":
            first = self.lexicon.where(_begins_in_word)[self.ids]
            last = self.lexicon.where(_ends_in_word)[self.ids]
            return np.asarray(first & _shifted(last, 1))
        solid = real & ~self.atoms([Class("indentation")])
        ends = self.lexicon.where(_ends_line)
        # The start of the text starts a line too: then neither has a last position.
        at_start = _last(ends[self.ids]) == _last(solid)
        return real & _shifted(at_start, 1, fill=True)


def _shifted(mask: Mask, by: int, fill: bool = False) -> Mask:
    moved = np.full_like(mask, fill)
    if by > 0:
        moved[:, by:] = mask[:, :-by]
    else:
        moved[:, :by] = mask[:, -by:]
    return moved


def _last(mask: Mask) -> NDArray[np.int64]:
    """[n, t] the last position up to each one at which the mask is set, −1 if none."""
    positions = np.where(mask, np.arange(mask.shape[1]), -1)
    return np.asarray(np.maximum.accumulate(positions, axis=1))


def matches(pattern: Pattern, tokens: Sequence[str], left: Sequence[str] = ()) -> list[bool]:
    """At which tokens of one window the pattern matches; ``left`` is what stands before it."""
    if not tokens:
        return []
    vocabulary = sorted({*tokens, *left})
    number = {text: index for index, text in enumerate(vocabulary)}
    token_ids = np.array([[number[text] for text in tokens]], dtype=np.int32)
    left_ids = np.array([[number[text] for text in left]], dtype=np.int32).reshape(1, len(left))
    found = Windows(Lexicon(vocabulary), token_ids, left_ids).matches(pattern)
    return [bool(hit) for hit in found[0]]
