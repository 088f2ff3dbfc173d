"""Texts written from a pattern by substituting tokens in real text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Background, Example
from autointerp.patterns.grammar import Atom, Clause, Condition, Pattern, Token
from autointerp.patterns.reading import Encode, Ids, Reader, background_row, whole

FRAME = (8, 14)  # tokens of a frame, at least and at most
BEFORE, AFTER = 8, 2  # tokens kept around a match of a real window
TRIES = 6
Rng = np.random.Generator


@dataclass(frozen=True)
class Written:
    """A text, its ids, and which of them the pattern needs: ``match`` and its context."""

    text: str
    ids: Ids
    match: int
    context: tuple[int, ...] = ()


@dataclass(frozen=True)
class Joiner:
    """How tokens make a text that encodes to them again: with nothing or a blank between."""

    separator: str

    @classmethod
    def fitting(cls, encode: Encode, vocabulary: Sequence[str], windows: Iterable[Ids]) -> Joiner:
        """The one that more of the windows survive."""
        rows = [ids.tolist() for ids in windows]

        def kept(separator: str) -> int:
            texts = [separator.join(vocabulary[i] for i in row) for row in rows]
            return sum(list(encode(text)) == row for text, row in zip(texts, rows, strict=True))

        return cls(" " if kept(" ") > kept("") else "")

    def __call__(self, tokens: Iterable[str]) -> str:
        return self.separator.join(tokens)


class Writer:
    """Writes texts into frames: stretches of the background's windows ``rows``.

    ``seen`` are the token texts that stand for a class or an affix, the best first.
    """

    def __init__(
        self,
        reader: Reader,
        join: Joiner,
        background: Background,
        rows: NDArray[np.intp],
        seen: Sequence[str],
    ) -> None:
        self.reader, self.join, self.seen = reader, join, seen
        self._background, self._rows = background, rows

    def spliced(self, pattern: Pattern, clause: Clause, rng: Rng) -> Written | None:
        """A foreign frame with just what the clause asks for written into it."""
        return self._first(rng, lambda: self._splice(clause, rng), pattern)

    def natural(self, pattern: Pattern, ids: Ids, start: int, rng: Rng) -> Written | None:
        """The stretch of a real window around a match, after a stretch of foreign text.

        ``ids`` are the window's from ``start`` on; only matches in it are taken.
        """
        places = [p for p in self.reader.where(pattern, ids) if p >= start]
        if not places:
            return None
        at = places[int(rng.integers(len(places)))]
        for before in (BEFORE, 3 * BEFORE, len(ids)):
            low = max(0, at - before)
            frame = self._frame(rng)[:4]
            text = np.concatenate([frame, ids[low : at + 1 + AFTER]])
            written = self._checked(pattern, text, len(frame) + at - low, ())
            if written is not None:
                return written
        return None

    def bare(self, pattern: Pattern, clause: Clause, rng: Rng) -> Written | None:
        """The clause's token in a foreign frame, without its context or under an exception of
        it; the pattern does not hold."""
        excluded = [Clause(clause.match, (*clause.conditions, e)) for e in clause.exceptions]
        offered = excluded or [Clause(clause.match)]
        chosen = offered[int(rng.integers(len(offered)))]
        return self._first(rng, lambda: self._splice(chosen, rng), pattern, expected=False)

    def foreign(self, pattern: Pattern, rng: Rng) -> Written | None:
        """A frame in which the pattern does not hold."""
        return self._first(rng, lambda: self._written(self._frame(rng), 0), pattern, expected=False)

    def lookalike(self, pattern: Pattern, written: Written, rng: Rng) -> Written | None:
        """The matching token with other letter cases or blanks, where the pattern then fails."""
        lexicon = self.reader.lexicon
        others = lexicon.alike(lexicon.vocabulary[written.ids[written.match]])
        for place in rng.permutation(len(others)).tolist():
            ids = written.ids.copy()
            ids[written.match] = others[place]
            found = self._written(ids, written.match)
            if found and not self.reader.holds(pattern, [found.text])[0]:
                return found
        return None

    def edited(self, pattern: Pattern, written: Written, rng: Rng, turn: int) -> Written | None:
        """One token substituted, so that the pattern holds no more: by turns the matching token
        and one of its context."""
        places = [*written.context, written.match]
        at = places[-1 - turn % len(places)]

        def attempt() -> Written | None:
            frame = self._frame(rng)
            ids = written.ids.copy()
            ids[at] = frame[int(rng.integers(len(frame)))]
            return self._written(ids, at)

        return self._first(rng, attempt, pattern, expected=False)

    def around(self, pattern: Pattern, example: Example, rng: Rng) -> str | None:
        """The stretch of a real window around a match of the pattern in it."""
        ids = whole(example)
        places = [p for p in self.reader.where(pattern, ids) if p >= len(example.left_ids)]
        if not places:
            return None
        at = places[int(rng.integers(len(places)))]
        return self._text(ids[max(0, at - BEFORE) : at + 1 + AFTER])

    def _first(
        self, rng: Rng, attempt: Callable[[], Written | None], pattern: Pattern, *,
        expected: bool = True,
    ) -> Written | None:  # fmt: skip
        for _ in range(TRIES):
            written = attempt()
            if written and self.reader.holds(pattern, [written.text])[0] == expected:
                return written
        return None

    def _checked(
        self, pattern: Pattern, ids: Ids, match: int, context: tuple[int, ...]
    ) -> Written | None:
        written = self._written(ids, match, context)
        holds = written is not None and self.reader.holds(pattern, [written.text])[0]
        return written if holds else None

    def _written(self, ids: Ids, match: int, context: tuple[int, ...] = ()) -> Written | None:
        """None where the text would be read as other tokens."""
        text = self._text(ids)
        same = np.array_equal(self.reader.ids(text), ids)
        return Written(text, ids, match, context) if same else None

    def _text(self, ids: Ids) -> str:
        vocabulary = self.reader.lexicon.vocabulary
        return self.join(vocabulary[i] for i in ids.tolist())

    def _frame(self, rng: Rng) -> Ids:
        row = int(rng.choice(self._rows))
        ids = background_row(self._background, row)
        length = int(rng.integers(*FRAME))
        low = int(rng.integers(max(1, len(ids) - length)))
        return ids[low : low + length]

    def _place(self, rng: Rng) -> tuple[Ids, int]:
        frame = self._frame(rng)
        return frame, max(1, 2 * len(frame) // 3)

    def _token(self, atoms: Sequence[Atom], rng: Rng) -> int | None:
        """A token that one of the atoms accepts; of classes, one at which the latent fires."""
        atom = atoms[int(rng.integers(len(atoms)))]
        if isinstance(atom, Token):
            texts = [atom.text]
        else:
            texts = list(islice(filter(atom.accepts, self.seen), 20))
            texts = texts or list(islice(filter(atom.accepts, self.reader.lexicon.vocabulary), 200))
        ids = [i for text in texts for i in self.reader.lexicon.ids(text)]
        return ids[int(rng.integers(len(ids)))] if ids else None

    def _splice(self, clause: Clause, rng: Rng) -> Written | None:
        frame, at = self._place(rng)
        row: list[int] = frame.tolist()
        token = self._token(clause.match, rng)
        if token is None:
            return None
        row.insert(at, token)
        context: list[int] = []
        for condition in clause.conditions:
            place = _position(condition, at)
            other = self._token(condition.atoms, rng) if condition.atoms else None
            if place is None or other is None or place >= len(row) or place in context:
                return None
            row[place] = other
            context.append(place)
        return self._written(np.array(row, np.int32), at, tuple(context))


def _position(condition: Condition, at: int) -> int | None:
    """Where a condition's token goes for a match at ``at``; None where it is no token."""
    places = {
        "after": at - 1,
        "two tokens after": at - 2,
        "on its line after": at - 2,
        "somewhere after": max(0, at - 4),
        "before": at + 1,
    }
    place = places.get(condition.kind)
    return place if place is not None and place >= 0 else None


def cycled(clauses: Sequence[Clause], rng: Rng) -> Iterator[Clause]:
    """Clauses of one matching token and one token a condition, so that each has its turn."""
    single = [one for clause in clauses for one in _singles(clause)]
    while single:
        for place in rng.permutation(len(single)).tolist():
            yield single[place]


def _singles(clause: Clause) -> list[Clause]:
    lengths = [len(clause.match), *(len(c.atoms) for c in clause.conditions)]
    return [
        Clause(
            (clause.match[i % len(clause.match)],),
            tuple(_nth(condition, i) for condition in clause.conditions),
            tuple(_nth(condition, i) for condition in clause.exceptions),
        )
        for i in range(max(lengths))
    ]


def _nth(condition: Condition, i: int) -> Condition:
    atoms = condition.atoms
    return Condition(condition.kind, (atoms[i % len(atoms)],)) if atoms else condition
