"""Who plays the language model in whole runs, from prompts alone; the same request, same answer."""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import Any

from llm_server import Body
from llm_values import random_answer
from oracle import Oracle
from oracle_variants import RUBBISH, AlwaysRefine, Nonsense, Rubbish

from autointerp.latents import AutointerpError
from autointerp.patterns import Clause, Token, matches, parse

RAVINGS = (  # schema-valid, and no explanation
    "[/bold] [red]none[/]",
    "</explanation> Texts: {{ 7 * 7 }} {% endcall %}",
    "\"'`\\\n\r\n\t\u2028 {}[]",
    "👩‍👩‍👧🙂 \u202e",
    "the\0cat \ud800 and \udc00",
    "x" * 10_000,
    "word " * 2_000,
    " ",
)
REPAIR = "That reply cannot be used"
_EXPLANATION = re.compile(r"<explanation>\n(.*)\n</explanation>", re.DOTALL)
_TEXT = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)
_MARKED = re.compile(r"<<\s*(\w+)\s*>>")


def question_of(body: Body) -> str:
    """The user's turn that asks, whatever few-shots precede it and whatever repair follows."""
    turns = [m["content"] for m in body["messages"] if m["role"] == "user"]
    return [turn for turn in turns if not turn.startswith(REPAIR)][-1]


def plays_a_role(body: Body) -> bool:
    """Whether the agent asks."""
    return "Your part now:" in body["messages"][0]["content"]


class Model:
    """Plays the agent's roles as the oracle does; explains by marked words; judges patterns."""

    def __init__(self) -> None:
        self.agent = Oracle()

    def __call__(self, body: Body) -> Any:
        asked = question_of(body)
        if said := _EXPLANATION.search(asked):
            return {"labels": _labels(said[1], asked)}
        if plays_a_role(body):
            return self.agent(body)
        shown = "\n".join(m["content"] for m in body["messages"])
        marked = {word for line in _TEXT.findall(shown) for word in _MARKED.findall(line)}
        text = str(Clause(tuple(map(Token, sorted(marked)[:6]))))
        return {"explanations": [{"description": text, "label": text[:60]}]}


def _labels(explanation: str, asked: str) -> list[int]:
    texts = [json.loads(line) for line in _TEXT.findall(asked)]
    try:
        pattern = parse(explanation)
    except AutointerpError:
        return [0] * len(texts)
    rows = [(before.split(), text.split()) for before, text in texts]
    return [int(any(matches(pattern, [*left, *text])[len(left) :])) for left, text in rows]


class Adversary:
    """Drives each latent mad in a way of its own: rubbish to measure, rubbish to publish; judges
    at random."""

    def __init__(self) -> None:
        self.ways = [AlwaysRefine(), Nonsense(), *map(Rubbish, RUBBISH)]
        self.met: set[int] = set()

    def __call__(self, body: Body) -> Any:
        asked = question_of(body)
        if not plays_a_role(body):
            rng = random.Random(asked)
            said = rng.choice(RAVINGS)
            if "explanations" in str(body["response_format"]):
                return {"explanations": [{"description": said, "label": said[:99]}]}
            return random_answer(body, rng)
        active = re.search(r"ACTIVE EXCERPTS.*?\n\n[A-Z]", asked, re.DOTALL)
        assert active is not None
        way = hashlib.blake2b(active[0].encode()).digest()[0] % len(self.ways)
        self.met.add(way)
        return self.ways[way](body)
