"""From a text to its pattern."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from autointerp.latents import AutointerpError
from autointerp.patterns.grammar import (
    AFFIXES,
    BLANK_CLASSES,
    CLASSES,
    NOTHING,
    NOTHING_TEXT,
    PLACE_KINDS,
    SEPARATOR,
    SET_KINDS,
    SPACE,
    Affix,
    Atom,
    Class,
    Clause,
    Condition,
    Pattern,
    Token,
)

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
