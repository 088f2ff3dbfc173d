"""What a pattern is made of, and its text."""

from __future__ import annotations

import json
import keyword
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_WORDS = 40
SEPARATOR = "; or "
NOTHING_TEXT = "nothing"
SPACE = "␣"


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
