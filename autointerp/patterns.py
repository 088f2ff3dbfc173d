"""Executable explanations: a small English grammar, its text, and its evaluation on tokens.

A pattern *is* its text: ``parse(str(pattern)) == pattern``. It says on which tokens a latent
fires, as clauses joined by ``; or``::

    "for", "␣in" after identifiers unless after "async"; or newlines somewhere after "def"

Quoted tokens are exact token texts with JSON's escapes; ``␣`` stands for a space, so that a
token is always one word.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError

MAX_WORDS = 40
SEPARATOR = "; or "
NOTHING_TEXT = "nothing"
SPACE = "␣"

Mask = NDArray[np.bool_]


def _is_word(text: str) -> bool:
    return text.replace("_", "a").isalnum() and not text[0].isdigit()


def _only(characters: str) -> Callable[[str], bool]:
    allowed = frozenset(characters)
    return lambda text: allowed.issuperset(text)


# Tests of a token's text without the spaces around it; whitespace classes see all of it.
CLASSES: dict[str, Callable[[str], bool]] = {
    "identifiers": _is_word,
    "keywords": keyword.iskeyword,
    "numbers": str.isdigit,
    "lower-case words": lambda text: text.isalpha() and text.islower(),
    "capitalised words": lambda text: text.isalpha() and text.istitle(),
    "upper-case words": lambda text: _is_word(text) and text.isupper(),
    "punctuation": lambda text: not any(c.isalnum() or c.isspace() for c in text),
    "operators": _only("+-*/%=<>!&|^~@"),
    "opening brackets": lambda text: text[-1] in "([{",
    "closing brackets": lambda text: text[0] in ")]}",
    "quotation marks": lambda text: "'" in text or '"' in text,
}
BLANK_CLASSES: dict[str, Callable[[str], bool]] = {
    "anything": lambda text: True,
    "newlines": lambda text: "\n" in text,
    "indentation": lambda text: text.isspace() and "\n" not in text,
    "new words": lambda text: text[:1] == " " and text[1:2].isalnum(),
}

AffixKind = Literal["starting with", "ending with", "containing"]
AFFIXES: dict[AffixKind, Callable[[str, str], bool]] = {
    "starting with": str.startswith,
    "ending with": str.endswith,
    "containing": str.__contains__,
}


@dataclass(frozen=True)
class Token:
    """Exactly this token text."""

    text: str

    def __str__(self) -> str:
        return quote(self.text)

    def accepts(self, text: str) -> bool:
        return text == self.text


@dataclass(frozen=True)
class Class:
    """Any token of a class; ``name`` is a key of ``CLASSES`` or ``BLANK_CLASSES``."""

    name: str

    def __str__(self) -> str:
        return self.name

    def accepts(self, text: str) -> bool:
        if self.name in BLANK_CLASSES:
            return BLANK_CLASSES[self.name](text)
        core = text.strip()
        return bool(core) and CLASSES[self.name](core)


@dataclass(frozen=True)
class Affix:
    """Any token whose text starts with, ends with or contains ``text``."""

    kind: AffixKind
    text: str

    def __str__(self) -> str:
        return f"tokens {self.kind} {quote(self.text)}"

    def accepts(self, text: str) -> bool:
        return AFFIXES[self.kind](text, self.text)


Atom = Token | Class | Affix

Kind = Literal[
    "after",
    "two tokens after",
    "somewhere after",
    "on its line after",
    "before",
    "at the start of a line",
    "at the start of the text",
    "inside a word",
]
SET_KINDS: tuple[Kind, ...] = (
    "after",
    "two tokens after",
    "somewhere after",
    "on its line after",
    "before",
)
PLACE_KINDS: tuple[Kind, ...] = (
    "at the start of a line",
    "at the start of the text",
    "inside a word",
)


@dataclass(frozen=True)
class Condition:
    """Where a token must stand; ``atoms`` is empty for the kinds of ``PLACE_KINDS``."""

    kind: Kind
    atoms: tuple[Atom, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.kind, *([_listed(self.atoms)] if self.atoms else [])])


@dataclass(frozen=True)
class Clause:
    """A token of ``match``, where all ``conditions`` hold and none of ``exceptions``."""

    match: tuple[Atom, ...]
    conditions: tuple[Condition, ...] = ()
    exceptions: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        parts = [_listed(self.match), *map(str, self.conditions)]
        return " ".join(parts + [f"unless {condition}" for condition in self.exceptions])


@dataclass(frozen=True)
class Pattern:
    """An either-or of clauses; with none it never matches and reads ``nothing``."""

    clauses: tuple[Clause, ...] = ()

    def __str__(self) -> str:
        return SEPARATOR.join(map(str, self.clauses)) or NOTHING_TEXT

    @property
    def words(self) -> int:
        """Number of words of the text, which an explainer keeps to ``MAX_WORDS``."""
        return len(str(self).split())


NOTHING = Pattern()


def _listed(atoms: Sequence[Atom]) -> str:
    return ", ".join(map(str, atoms))


def quote(text: str) -> str:
    """The text in double quotes, without white space, on one line."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character == " ":
        return SPACE
    if character.isprintable() and character not in SPACE + '"\\':
        return character
    if character == SPACE:
        return "\\u2423"
    return json.dumps(character)[1:-1]


_QUOTED = re.compile(r'"(?:[^"\\\s]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"')


def _phrases(names: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(re.escape(name) for name in longest_first))


_CLASS = _phrases([*CLASSES, *BLANK_CLASSES])
_AFFIX = re.compile(f"tokens ({'|'.join(AFFIXES)}) ")
_CONDITION = _phrases([*SET_KINDS, *PLACE_KINDS])


class _Parser:
    """Reads one text from left to right; every method starts at ``at`` and moves it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, literal: str) -> bool:
        found = self.text.startswith(literal, self.at)
        self.at += len(literal) if found else 0
        return found

    def find(self, expression: re.Pattern[str]) -> str | None:
        found = expression.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found.group(0)

    def refuse(self, expected: str) -> AutointerpError:
        rest = self.text[self.at : self.at + 20]
        return AutointerpError(
            f"not a pattern: expected {expected} at character {self.at} (before {rest!r}) "
            f'of {self.text[:80]!r}; write one as in: "for" after newlines'
        )

    def quoted(self) -> str:
        found = self.find(_QUOTED)
        if found is None:
            raise self.refuse("a quoted token")
        return str(json.loads(found.replace(SPACE, " ")))

    def atom(self) -> Atom:
        affix = _AFFIX.match(self.text, self.at)
        if affix is not None:
            self.at = affix.end()
            kind = next(kind for kind in AFFIXES if kind == affix.group(1))
            return Affix(kind, self.quoted())
        name = self.find(_CLASS)
        return Class(name) if name is not None else Token(self.quoted())

    def atoms(self) -> tuple[Atom, ...]:
        found = [self.atom()]
        while self.take(", "):
            found.append(self.atom())
        return tuple(found)

    def condition(self) -> Condition:
        phrase = self.find(_CONDITION)
        for kind in PLACE_KINDS:
            if kind == phrase:
                return Condition(kind)
        for kind in SET_KINDS:
            if kind == phrase and self.take(" "):
                return Condition(kind, self.atoms())
        raise self.refuse("a condition such as 'after \"x\"'")

    def clause(self) -> Clause:
        match = self.atoms()
        conditions: list[Condition] = []
        exceptions: list[Condition] = []
        while self.at < len(self.text) and not self.text.startswith(SEPARATOR, self.at):
            if self.take(" unless "):
                exceptions.append(self.condition())
            elif not exceptions and self.take(" "):
                conditions.append(self.condition())
            else:
                raise self.refuse("'; or '")
        return Clause(match, tuple(conditions), tuple(exceptions))


def parse(text: str) -> Pattern:
    """Read a pattern's text.

    Raises:
        AutointerpError: if it is not one, naming the place.
    """
    parser = _Parser(text.strip())
    if parser.text == NOTHING_TEXT:
        return NOTHING
    clauses = [parser.clause()]
    while parser.take(SEPARATOR):
        clauses.append(parser.clause())
    return Pattern(tuple(clauses))


class Lexicon:
    """A vocabulary's texts, and which of them an atom accepts. The last entry stands for none."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self._ids: dict[str, list[int]] = {}
        for index, text in enumerate(vocabulary):
            self._ids.setdefault(text, []).append(index)
        self._masks: dict[Atom, Mask] = {}

    def ids(self, text: str) -> list[int]:
        """The ids of all tokens of this text."""
        return self._ids.get(text, [])

    def mask(self, atom: Atom) -> Mask:
        """[vocabulary + 1] whether the atom accepts each token."""
        if isinstance(atom, Token):
            mask = np.zeros(len(self.vocabulary) + 1, dtype=bool)
            mask[self.ids(atom.text)] = True
            return mask
        if atom not in self._masks:
            accepted = [atom.accepts(text) for text in self.vocabulary]
            self._masks[atom] = np.array([*accepted, False])
        return self._masks[atom]

    def where(self, name: str, test: Callable[[str], bool]) -> Mask:
        """[vocabulary + 1] a property of the texts that is no atom, kept under its name."""
        key = Class(name)
        if key not in self._masks:
            self._masks[key] = np.array([*map(test, self.vocabulary), False])
        return self._masks[key]


def _word_character(character: str) -> bool:
    return character.isalnum() or character == "_"


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
        self._places = cache(self._place)

    def matches(self, pattern: Pattern) -> Mask:
        """[n, window] at which tokens the pattern matches."""
        found = np.zeros(self.ids.shape, dtype=bool)
        for clause in pattern.clauses:
            found |= self._clause(clause)
        return found[:, self.left :]

    def _clause(self, clause: Clause) -> Mask:
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
            return self._places(condition.kind)
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
            first = self.lexicon.where("first", lambda text: _word_character(text[:1]))
            last = self.lexicon.where("last", lambda text: _word_character(text[-1:]))
            return np.asarray(first[self.ids] & _shifted(last[self.ids], 1))
        solid = real & ~self.atoms([Class("indentation")])
        ends = self.lexicon.where(
            "ends line", lambda t: "\n" in t and not t[t.rfind("\n") :].strip()
        )
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
