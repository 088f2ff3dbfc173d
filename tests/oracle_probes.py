"""Probes as the oracle writes them: a claim holds in a text, and the least change undoes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from oracle_reading import TOPIC_OF, Claim, Prompt, active_words, silent, words_of

from autointerp.patterns import Condition, Token, matches

Body = dict[str, Any]
PAIRS = 7  # a hypothesis and round
FRAME = (5, 9)  # words before the trigger


class Writer:
    """Writes probes for one open hypothesis, with predictions for all of them."""

    def __init__(self, prompt: Prompt, claim: Claim, rng: random.Random) -> None:
        self.prompt, self.claim, self.rng = prompt, claim, rng
        self.clause = claim.pattern.clauses[0]
        said = set().union(*(words_of(c.pattern) for c in (*prompt.open, *prompt.settled)))
        self.neutral = [word for word in silent(prompt.rows) if word not in said]
        self.active = active_words(prompt.rows)
        self.known = {" ".join(row.tokens) for row in prompt.probes.values()}

    def probes(self, first: int) -> Iterator[Body]:
        words = self._triggers()
        for turn in range(PAIRS):
            word = words[turn % len(words)]
            base = self._base(word, turn)
            if base is None:
                continue
            tokens, at = base
            edited = self._edited(tokens, at, turn)
            yield {
                **self._predicted(tokens),
                "family": first + turn,
                "kind": "positive",
                "edited": None if edited is None else self._predicted(edited),
            }

    def _triggers(self) -> list[str]:
        """By turns words that were never seen active, where the claim may be too wide."""
        words = [atom.text for atom in self.clause.match if isinstance(atom, Token)]
        new = [word for word in words if word not in self.active]
        old = [word for word in words if word in self.active]
        self.rng.shuffle(new)
        self.rng.shuffle(old)
        longest = max(len(new), len(old))
        return [part[i % len(part)] for i in range(longest) for part in (new, old) if part]

    def _base(self, word: str, turn: int) -> tuple[list[str], int] | None:
        """A text in which the claim holds at the word: by turns written anew and cut from rows."""
        for attempt in range(6):
            made = self._found(word) if (turn + attempt) % 2 else self._written(word)
            if made is not None:
                tokens, at = made
                new = " ".join(tokens) not in self.known
                if new and at and matches(self.claim.pattern, tokens)[at]:
                    self.known.add(" ".join(tokens))
                    return made
        return None

    def _frame(self) -> list[str]:
        return self.rng.choices(self.neutral, k=self.rng.randint(*FRAME))

    def _written(self, word: str) -> tuple[list[str], int]:
        frame = self._frame()
        for condition in self.clause.conditions:
            atom = self.rng.choice(condition.atoms)
            back = {"after": 1, "two tokens after": 2}.get(condition.kind, 4)
            frame[-back] = atom.text if isinstance(atom, Token) else frame[-back]
        return [*frame, word, *self.rng.choices(self.neutral, k=2)], len(frame)

    def _found(self, word: str) -> tuple[list[str], int] | None:
        """The stretch before the word in a shown row where the claim holds; if it is silent in
        some of them, one of these."""
        places = [
            (row, at)
            for row in self.prompt.rows
            for at, holds in enumerate(matches(self.claim.pattern, row.tokens))
            if holds and row.tokens[at] == word
        ]
        quiet = [(row, at) for row, at in places if row.levels[at] == 0]
        if not places:
            return None
        row, at = self.rng.choice(quiet or places)
        tokens = list(row.tokens[max(0, at - self.rng.randint(3, 40)) : at + 1])
        return [*tokens, *self.rng.choices(self.neutral, k=2)], len(tokens) - 1

    def _edited(self, tokens: Sequence[str], at: int, turn: int) -> list[str] | None:
        """The least change after which the claim no longer holds."""
        tested = [*self._breaks(), *([self._near] if self._others() else [])]
        changes = [self._neutral, *tested * PAIRS]
        for change in (changes[min(turn, len(changes) - 1)], self._neutral):
            edited = change(list(tokens), at)
            if not any(matches(self.claim.pattern, edited)):
                return edited
        return None

    def _neutral(self, tokens: list[str], at: int) -> list[str]:
        """Every word of the claim is replaced."""
        words = words_of(self.claim.pattern)
        return [self.rng.choice(self.neutral) if token in words else token for token in tokens]

    def _near(self, tokens: list[str], at: int) -> list[str]:
        return [*tokens[:at], self.rng.choice(self._others()), *tokens[at + 1 :]]

    def _others(self) -> list[str]:
        """Words of the same subject that are active somewhere and that the claim leaves out."""
        words = words_of(self.claim.pattern)
        about = words | self.prompt.peaks(self.claim.clusters)
        topics = {TOPIC_OF.get(word, "") for word in about}
        return [w for w in self.active if w not in words and TOPIC_OF.get(w, "") in topics]

    def _breaks(self) -> list[Callable[[list[str], int], list[str]]]:
        """Ways to take away what the claim needs, or to bring in what it excludes."""

        def without(condition: Condition) -> Callable[[list[str], int], list[str]]:
            texts = {atom.text for atom in condition.atoms if isinstance(atom, Token)}
            return lambda tokens, at: [
                self.rng.choice(self.neutral) if token in texts else token for token in tokens
            ]

        def excluded(condition: Condition) -> Callable[[list[str], int], list[str]]:
            (atom, *_) = condition.atoms
            text = atom.text if isinstance(atom, Token) else ""
            return lambda tokens, at: [*tokens[: at - 1], text, *tokens[at:]]

        needed = [without(condition) for condition in self.clause.conditions]
        return needed + [excluded(condition) for condition in self.clause.exceptions]

    def _predicted(self, tokens: Sequence[str]) -> Body:
        on, off = [], []
        for claim in self.prompt.open:
            if any(matches(claim.pattern, tokens)):
                on.append(claim.id)
            elif not self._left_to_others(claim, tokens):
                off.append(claim.id)
        return {"text": " ".join(tokens), "on": on, "off": off}

    def _left_to_others(self, claim: Claim, tokens: Sequence[str]) -> bool:
        """Whether another part of an either-or is about these words."""
        own = self.prompt.peaks(claim.clusters)
        return any(
            (self.prompt.peaks(other.clusters) - own) & set(tokens)
            or any(matches(other.pattern, tokens))
            for other in (*self.prompt.open, *self.prompt.settled)
            if other.id != claim.id
        )
