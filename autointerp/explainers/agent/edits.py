"""Small changes of a pattern: narrower, broader, and the best of them on labelled texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from autointerp.explainers.agent.reading import Trials
from autointerp.explainers.candidates import CONTEXT_CLASSES
from autointerp.patterns import (
    CLASSES,
    MAX_WORDS,
    Affix,
    Atom,
    Class,
    Clause,
    Condition,
    Kind,
    Pattern,
    Token,
)

WORD_PRICE = 0.0015  # balanced accuracy that a word must gain
LEAST_GAIN = 0.005
STEPS = 3
CONTEXTS = 8  # tokens tried for each kind of condition
SET_SIZES = (1, 2, 4, 8)
_REACH: dict[Kind, int] = {"after": 1, "two tokens after": 2, "somewhere after": 0}

Direction = Literal["narrow", "broaden"]


@dataclass(frozen=True)
class Edit:
    """A changed pattern, and in which direction it went."""

    pattern: Pattern
    direction: Direction


def improved(
    pattern: Pattern, trials: Trials, known: Collection[str], tokens: Sequence[str]
) -> Edit | None:
    """The pattern after the best few changes, or None if none is worth its words.

    ``known`` texts are not come back to; ``tokens`` may be added to what matches.
    """
    best, edit = _worth(pattern, trials), None
    for _ in range(STEPS):
        start = edit.pattern if edit else pattern
        offers = [(_worth(e.pattern, trials), e) for e in _edits(start, trials, tokens)]
        better = [offer for offer in offers if offer[0] >= best + LEAST_GAIN]
        better.sort(key=lambda offer: -offer[0])
        # Writing a pattern out costs more than trying it: the first fit one is the best.
        fit = next((offer for offer in better if _fit(offer[1].pattern, known)), None)
        if fit is None:
            break
        best, edit = fit
    return edit


def _fit(pattern: Pattern, known: Collection[str]) -> bool:
    return pattern.words <= MAX_WORDS and str(pattern) not in known


def _worth(pattern: Pattern, trials: Trials) -> float:
    return trials.value(pattern) - WORD_PRICE * sum(map(_size, pattern.clauses))


def _size(clause: Clause) -> int:
    """About the number of its words."""
    parts = (*clause.conditions, *clause.exceptions)
    return len(clause.match) + sum(2 + len(part.atoms) for part in parts)


def _edits(pattern: Pattern, trials: Trials, tokens: Sequence[str]) -> Iterator[Edit]:
    for at, clause in enumerate(pattern.clauses):
        before, after = pattern.clauses[:at], pattern.clauses[at + 1 :]
        for narrower in _narrower(clause, trials):
            yield Edit(Pattern((*before, narrower, *after)), "narrow")
        for broader in _broader(clause, tokens):
            yield Edit(Pattern((*before, broader, *after)), "broaden")
        if len(pattern.clauses) > 1:
            yield Edit(Pattern((*before, *after)), "narrow")


def _narrower(clause: Clause, trials: Trials) -> Iterator[Clause]:
    """One token less, a condition more, or an exception more."""
    yield from (replace(clause, match=match) for match in _one_less(clause.match))
    for conditions in _thinner(clause.conditions):
        yield replace(clause, conditions=conditions)
    for kind in _REACH:
        wanted, unwanted = _contexts(clause, trials, kind)
        yield from (_with(clause, kind, chosen) for chosen in _sets(wanted))
        yield from (_without(clause, kind, chosen) for chosen in _sets(unwanted))
    for name in CONTEXT_CLASSES:
        yield _with(clause, "after", (Class(name),))
    for place in (Condition("at the start of a line"), Condition("inside a word")):
        yield replace(clause, conditions=(*clause.conditions, place))


def _broader(clause: Clause, tokens: Sequence[str]) -> Iterator[Clause]:
    """A condition or an exception less, more tokens, or what they have in common."""
    for exceptions in _thinner(clause.exceptions):
        yield replace(clause, exceptions=exceptions)
    for condition in clause.conditions:
        yield replace(clause, conditions=tuple(c for c in clause.conditions if c != condition))
    for exception in clause.exceptions:
        yield replace(clause, exceptions=tuple(c for c in clause.exceptions if c != exception))
    new = [token for token in tokens if not any(atom.accepts(token) for atom in clause.match)]
    for atoms in _sets(new):
        yield replace(clause, match=(*clause.match, *atoms))
    for atom in _common(clause.match, new):
        yield replace(clause, match=(atom,))


def _one_less(atoms: tuple[Atom, ...]) -> Iterator[tuple[Atom, ...]]:
    """Each atom left out, where another stays."""
    if len(atoms) > 1:
        yield from (atoms[:at] + atoms[at + 1 :] for at in range(len(atoms)))


def _thinner(conditions: tuple[Condition, ...]) -> Iterator[tuple[Condition, ...]]:
    """One token of one condition left out."""
    for at, condition in enumerate(conditions):
        for atoms in _one_less(condition.atoms):
            thin = Condition(condition.kind, atoms)
            yield (*conditions[:at], thin, *conditions[at + 1 :])


def _common(match: Sequence[Atom], more: Sequence[str]) -> Iterator[Atom]:
    """Classes and affixes that accept all tokens of the match, and one more."""
    texts = [atom.text for atom in match if isinstance(atom, Token)]
    if len(texts) < len(match):
        return
    everything = [*texts, *more[:1]]
    yield from (c for c in map(Class, CLASSES) if all(map(c.accepts, everything)))
    for length in (2, 3, 4, 5):
        starts = {text[:length] for text in everything if len(text) >= length}
        ends = {text[-length:] for text in everything if len(text) >= length}
        if len(starts) == 1:
            yield Affix("starting with", starts.pop())
        if len(ends) == 1:
            yield Affix("ending with", ends.pop())


def _sets(texts: Sequence[str]) -> Iterator[tuple[Atom, ...]]:
    """Each text alone, and the first few together."""
    yield from ((Token(text),) for text in texts)
    for size in SET_SIZES[1:]:
        if size <= len(texts):
            yield tuple(map(Token, texts[:size]))


def _with(clause: Clause, kind: Kind, atoms: tuple[Atom, ...]) -> Clause:
    """The condition added, in place of another of its kind if there is one."""
    others = tuple(c for c in clause.conditions if c.kind != kind)
    return replace(clause, conditions=(*others, Condition(kind, atoms)))


def _without(clause: Clause, kind: Kind, atoms: tuple[Atom, ...]) -> Clause:
    same = tuple(a for c in clause.exceptions if c.kind == kind for a in c.atoms if a not in atoms)
    others = tuple(c for c in clause.exceptions if c.kind != kind)
    return replace(clause, exceptions=(*others, Condition(kind, (*same, *atoms))))


def _contexts(clause: Clause, trials: Trials, kind: Kind) -> tuple[list[str], list[str]]:
    """Tokens that stand so to the clause's matches rather in texts that are on, and rather in
    those that are off."""
    ids, vocabulary = trials.windows.ids, trials.windows.lexicon.vocabulary
    rows, columns = np.nonzero(trials.places(clause))
    reach = _REACH[kind]
    distance = columns[:, None] - np.arange(ids.shape[1])  # [matches, longest]
    inside = distance == reach if reach else distance > 0
    match, place = np.nonzero(inside & (ids[rows] >= 0))
    # A text counts a token once, however often it stands there.
    texts, tokens = np.divmod(
        np.unique(rows[match] * len(vocabulary) + ids[rows[match], place]), len(vocabulary)
    )
    leaning = np.bincount(tokens, trials.weights[texts], len(vocabulary))
    order = np.argsort(-leaning, kind="stable")
    wanted = [vocabulary[i] for i in order[:CONTEXTS].tolist() if leaning[i] > 0]
    unwanted = [vocabulary[i] for i in order[::-1][:CONTEXTS].tolist() if leaning[i] < 0]
    return [text for text in wanted if text], [text for text in unwanted if text]
