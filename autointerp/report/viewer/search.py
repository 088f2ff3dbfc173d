"""What a user types and chooses, as a query of the full-text index."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.report.viewer.facets import Choice
from autointerp.report.viewer.schema import COLUMNS, FACETS

MOST_TERMS = 16
LONGEST = 500  # characters of a query
_PART = re.compile(r'"([^"]*)"?|(\S+)')
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Term:
    """A word or phrase that has to occur; ``prefix`` if its last word may go on."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def query(self) -> str:
        return f'"{" ".join(self.words)}"' + (" *" if self.prefix else "")


def fold(text: str) -> str:
    """A word as the index has it: lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def words_of(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, as they stand there."""
    return _WORD.findall(text)


def terms(text: str) -> list[Term]:
    """Words, "phrases in quotes" and beginn*; of signs alone nothing is left."""
    found = []
    for match in _PART.finditer(text[:LONGEST]):
        phrase, word = match.groups()
        words = tuple(words_of(phrase if word is None else word))
        if words:
            found.append(Term(words, prefix=word is not None and word.endswith("*")))
    return found[:MOST_TERMS]


def match(asked: Sequence[Term], filters: Sequence[Choice]) -> str:
    """The query that finds what has all terms and passes all filters; "" if that is everything."""
    parts = [f"{FACETS} : {choice.query}" for choice in filters]
    if asked:
        parts.append(f"{COLUMNS} : ({' AND '.join(term.query for term in asked)})")
    return " AND ".join(parts)


@dataclass(frozen=True)
class Piece:
    """A part of a text, and whether it is what was searched for."""

    text: str
    found: bool


def marked(text: str, asked: Sequence[Term]) -> list[Piece]:
    """A text cut at the words that were asked for."""
    whole = {
        fold(word) for term in asked for word in (term.words[:-1] if term.prefix else term.words)
    }
    beginnings = tuple(fold(term.words[-1]) for term in asked if term.prefix)
    pieces, at = [], 0
    for found in _WORD.finditer(text) if asked else ():
        word = fold(found.group())
        if word in whole or (beginnings and word.startswith(beginnings)):
            pieces += [Piece(text[at : found.start()], False), Piece(found.group(), True)]
            at = found.end()
    pieces.append(Piece(text[at:], False))
    return [piece for piece in pieces if piece.text]
