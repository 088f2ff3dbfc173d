"""A scripted language model that finds the planted rules by experiment, from prompts alone.

``LLMServer(answer=Oracle())`` plays the agent's roles, and a judge. Its first hypotheses are always
wrong: too broad, too narrow or unrelated, by a hash of the evidence that the prompt shows. Only
mispredicted probes make it write what it recognises.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from oracle_judging import is_judging, judged
from oracle_probes import Writer
from oracle_reading import (
    Claim,
    Prompt,
    Row,
    active_words,
    read_prompt,
    recognised,
    silent,
    words_of,
)

from autointerp.patterns import Clause, Condition, Pattern, Token

Body = dict[str, Any]
MISTAKES = ("broad", "narrow", "unrelated")


class Oracle:
    """Answers prompts of the agent and of judges; called with the body of a request. Counts its
    mistakes."""

    def __init__(self) -> None:
        self.mistakes: Counter[str] = Counter()

    def __call__(self, body: Body) -> Any:
        if is_judging(body):
            return judged(body)
        turns = {m["role"]: m["content"] for m in reversed(body["messages"])}  # the first of each
        prompt = read_prompt(turns["system"], turns["user"])
        rng = random.Random(turns["user"])
        answer: Callable[[Prompt, random.Random], Any] = getattr(self, prompt.part)
        return answer(prompt, rng)

    def propose(self, prompt: Prompt, rng: random.Random) -> Body:
        """What the excerpts suggest, distorted."""
        rows = [*prompt.excerpts, *prompt.inactive]
        clauses = recognised(rows)
        mistake = _mistake(prompt)
        self.mistakes[mistake] += 1
        wrong = [distorted(clause, rows, rng, mistake) for clause in clauses]
        return {
            "hypotheses": [
                guess(text, prompt, clause, len(clauses))
                for text, clause in list(zip(wrong, clauses, strict=True))[:5]
            ]
        }

    def design(self, prompt: Prompt, rng: random.Random) -> Body:
        probes = [
            probe
            for number, claim in enumerate(prompt.open)
            for probe in Writer(prompt, claim, rng).probes(100 * number)
        ]
        return {"probes": probes[:40]}

    def revise(self, prompt: Prompt, rng: random.Random) -> Body:
        """Of each doubtful hypothesis with mispredicted probes, what all rows suggest instead."""
        clauses = _fit(prompt)
        taken = {str(c.pattern) for c in (*prompt.open, *prompt.settled)} | set(prompt.discarded)
        revisions = []
        for claim in prompt.open:
            if not claim.doubtful or not prompt.missed.get(claim.id):
                continue
            clause = _instead(claim, clauses, prompt, taken - {str(claim.pattern)})
            if clause is None or str(clause) == str(claim.pattern):
                revisions.append(revision("drop" if clause is None else "keep", claim))
                continue
            taken.add(str(clause))
            new = guess(str(clause), prompt, clause, len(clauses))
            revisions.append(revision("broaden", claim, new))
        return {"revisions": revisions}

    def review(self, prompt: Prompt, rng: random.Random) -> Body:
        """What is recognised by now and not yet said."""
        clauses = _fit(prompt)
        said = {str(c.pattern) for c in (*prompt.open, *prompt.settled)} | set(prompt.discarded)
        new = [clause for clause in clauses if str(clause) not in said]
        added = [guess(str(clause), prompt, clause, 2) for clause in new[:4]]
        reply: Body = {"reason": "", "action": "add", "targets": [], "hypotheses": added}
        return {"revisions": [reply] if added else []}


def _fit(prompt: Prompt) -> list[Clause]:
    """The rules that all rows suggest, of those that explain some of the excerpts."""
    shown = set(active_words(prompt.excerpts))
    return [c for c in recognised(prompt.rows) if words_of(Pattern((c,))) & shown]


def _instead(
    claim: Claim, clauses: Sequence[Clause], prompt: Prompt, taken: Collection[str]
) -> Clause | None:
    """The recognised rule that shares most words with the claim and the clusters it claims."""
    own = prompt.peaks(claim.clusters) | words_of(claim.pattern)
    shared = {clause: len(words_of(Pattern((clause,))) & own) for clause in clauses}
    fit = [clause for clause in clauses if shared[clause] and str(clause) not in taken]
    return max(fit, key=shared.__getitem__, default=None)


def _mistake(prompt: Prompt) -> str:
    shown = repr(sorted(prompt.clusters.items())).encode()
    return MISTAKES[hashlib.blake2b(shown).digest()[0] % 3]


def distorted(clause: Clause, rows: Sequence[Row], rng: random.Random, how: str) -> str:
    others = silent(rows)
    if how == "unrelated":
        return str(Clause((Token(rng.choice(others)),)))
    if how == "narrow":
        return str(_narrowed(clause, rows, rng))
    if clause.conditions or clause.exceptions:
        return str(Clause(clause.match))
    extra = rng.sample(others, min(len(others), len(clause.match)))
    return str(Clause((*clause.match, *map(Token, extra))))


def _narrowed(clause: Clause, rows: Sequence[Row], rng: random.Random) -> Clause:
    """Half of the words, or the one word only two after one of the tokens seen there."""
    if len(clause.match) > 1:
        kept = clause.match[: len(clause.match) // 2]
        return Clause(kept, clause.conditions, clause.exceptions)
    words = words_of(Pattern((clause,)))
    second = {
        row.tokens[at - 2]
        for row in rows
        for at, token in enumerate(row.tokens)
        if at > 1 and token in words and row.levels[at]
    }
    chosen = Condition("two tokens after", (Token(rng.choice(sorted(second))),))
    return Clause(clause.match, (*clause.conditions, chosen), clause.exceptions)


def guess(text: str, prompt: Prompt, about: Clause, parts: int) -> Body:
    words = words_of(Pattern((about,)))
    return {
        "text": text,
        "label": "a guess",
        "trigger": ", ".join(sorted(words))[:300],
        "scope": " ".join(map(str, about.conditions)),
        "exclusions": list(map(str, about.exceptions)),
        "level": 8,
        "relation": "coexists" if parts > 1 else "competes",
        "clusters": [name for name in prompt.clusters if words & prompt.peaks([name])],
    }


def revision(action: str, claim: Claim, *new: Body) -> Body:
    reason = "the probes contradict it"
    return {"reason": reason, "action": action, "targets": [claim.id], "hypotheses": list(new)}
