"""Probe texts written from a pattern by substituting tokens in real text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.explainers.agent.exemplars import Joiner
from autointerp.explainers.agent.reading import Ids, Reader, background_row, whole
from autointerp.latents import Evidence, Example
from autointerp.patterns import Atom, Clause, Condition, Pattern, Token

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


class Writer:
    """Writes texts for one latent: frames are windows in which it is inactive.

    ``seen`` are token texts at which it fires, commonest first, for patterns of classes.
    """

    def __init__(self, reader: Reader, join: Joiner, evidence: Evidence, seen: Sequence[str]):
        self.reader, self.join, self.evidence, self.seen = reader, join, evidence, seen
        self._quiet = np.flatnonzero(evidence.background_maxima <= 0)

    def spliced(self, pattern: Pattern, clause: Clause, rng: Rng) -> Written | None:
        """A foreign frame with just what the clause asks for written into it."""
        return self._first(rng, lambda: self._splice(clause, rng), pattern)

    def natural(self, pattern: Pattern, example: Example, rng: Rng) -> Written | None:
        """The stretch of a real window around a match, after a stretch of foreign text."""
        ids = whole(example)
        places = [p for p in self.reader.where(pattern, ids) if p >= len(example.left_ids)]
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
        """A stretch of a window in which the latent is inactive."""
        row = int(rng.choice(self._quiet))
        ids = background_row(self.evidence.background, row)
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
            texts = [text for text in self.seen if atom.accepts(text)][:20]
            texts = texts or [t for t in self.reader.lexicon.vocabulary if atom.accepts(t)][:200]
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
