"""Language models that make the agent's life hard: never right, never content, or rubbish."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

from llm_values import random_answer
from oracle import Body, Oracle, distorted, guess, revision
from oracle_reading import Prompt, recognised, silent

from autointerp.patterns import Clause, Condition, Token


class NeverRight(Oracle):
    """Tests honestly, and always writes something wrong: words at which nothing is active."""

    def revise(self, prompt: Prompt, rng: random.Random) -> Body:
        clauses = recognised(prompt.rows)
        revisions = []
        for claim in prompt.open:
            about = rng.choice(clauses)
            text = distorted(about, prompt.rows, rng, "unrelated")
            revisions.append(revision("narrow", claim, guess(text, prompt, about, 1)))
        return {"revisions": revisions}

    def review(self, prompt: Prompt, rng: random.Random) -> Body:
        about = rng.choice(recognised(prompt.rows))
        text = distorted(about, prompt.rows, rng, "unrelated")
        added = [guess(text, prompt, about, 1)]
        return {"revisions": [{"reason": "", "action": "add", "targets": [], "hypotheses": added}]}


class AlwaysRefine(Oracle):
    """Is never content: every open hypothesis gets one more condition, whatever was measured."""

    def revise(self, prompt: Prompt, rng: random.Random) -> Body:
        revisions = []
        for claim in prompt.open:
            clause = claim.pattern.clauses[0]
            more = Condition("somewhere after", (Token(rng.choice(silent(prompt.rows))),))
            conditions = (*clause.conditions[:3], more)
            text = str(Clause(clause.match[:8], conditions, clause.exceptions[:2]))
            revisions.append(revision("narrow", claim, guess(text, prompt, clause, 1)))
        return {"revisions": revisions[:8]}


RUBBISH: dict[str, Callable[[int], str]] = {
    "duplicates": lambda turn: "the same words again",
    "empty": lambda turn: " " * (turn % 3),
    "long": lambda turn: f"{turn} " + "word " * 2000,
    "quotes": lambda turn: "\"'`\\" * (turn + 1) + "\n\r\n\t{}[]«»3‖",
    "emoji": lambda turn: "👩‍👩‍👧🙂" * (turn + 1),
    "broken": lambda turn: f"the\0cat \ud800 and \udc00 {turn}",
}


class Rubbish(Oracle):
    """Proposes like the oracle, but its probes are of one kind of rubbish."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.text = RUBBISH[kind]

    def design(self, prompt: Prompt, rng: random.Random) -> Body:
        ids = [claim.id for claim in prompt.open]

        def said(turn: int) -> Body:
            return {"text": self.text(turn), "on": ids[turn % 2 :], "off": ids[: turn % 2]}

        probes = [
            {**said(turn), "family": turn, "kind": "positive", "edited": said(turn + 1)}
            for turn in range(12)
        ]
        return {"probes": probes}


class Nonsense:
    """Fits every schema and names hypotheses that exist; everything else is random."""

    def __call__(self, body: Body) -> Any:
        asked = "\n".join(message["content"] for message in body["messages"])
        rng = random.Random(asked)
        ids = re.findall(r"^(h\d+): ", asked, re.M)
        answer = json.loads(random_answer(body, rng))
        for probe in answer.get("probes", []):
            for one in filter(None, (probe, probe["edited"])):
                one["on"], one["off"] = ids[:1], ids[1:]
        for one in answer.get("revisions", []):
            one["action"], one["targets"], one["hypotheses"] = "drop", ids[:1], []
        return answer
