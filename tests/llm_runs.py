"""Whole runs that ask the test server: who plays the model, what the server saw, how runs start.

``Model`` plays every part of a run from prompts alone; the same request has the same answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import re
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_server import Body, LLMServer
from llm_values import random_answer
from oracle import Oracle
from oracle_variants import RUBBISH, AlwaysRefine, Nonsense, Rubbish
from planted_coders import Planted
from small_run import settings, start

from autointerp.config import load_config
from autointerp.latents import AutointerpError, Cost
from autointerp.llm.journal import Journal, key_of
from autointerp.patterns import Clause, Token, matches, parse

LATENTS, WINDOWS = ("alive:4", "alive:3"), "examples.test.sampled=20"
AT_ONCE = """
from functools import partial
from autointerp.pipeline import tools
tools.Backoff = partial(tools.Backoff, base=0)
"""
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
_TEXT = re.compile(r'^\d+\. (\{"before": .*\})$', re.MULTILINE)
_MARKED = re.compile(r"<<\s*(\w+)\s*>>")


def question_of(body: Body) -> str:
    """The user's turn that asks, whatever few-shots precede it and whatever repair follows."""
    turns = [m["content"] for m in body["messages"] if m["role"] == "user"]
    return [turn for turn in turns if not turn.startswith(REPAIR)][-1]


def plays_a_role(body: Body) -> bool:
    """Whether the agent asks."""
    return "Your part now:" in body["messages"][0]["content"]


class Model:
    """Plays the agent's roles as ``agent`` does; explains by the marked words; judges patterns."""

    def __init__(self, agent: Any = None) -> None:
        self.agent = agent or Oracle()

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
    rows = [(text["before"].split(), text["text"].split()) for text in texts]
    return [int(any(matches(pattern, [*left, *text])[len(left) :])) for left, text in rows]


@dataclass(frozen=True)
class Seen:
    """A request that came, and the fault it met."""

    raw: bytes
    fault: str | None

    @property
    def repair(self) -> bool:
        """Whether it shows the model its own bad reply."""
        last: str = json.loads(self.raw)["messages"][-1]["content"]
        return last.startswith(REPAIR)


class Recorder(LLMServer):
    """A test server that remembers what it was asked, in order, and whose answers it sent."""

    def __init__(self, answer: Any, **options: Any) -> None:
        super().__init__(answer, **options)
        self.seen: list[Seen] = []
        self.sent: list[bytes] = []
        self.last_sent = 0.0  # monotonic seconds

    async def _complete(self, raw: bytes, auth: str, writer: asyncio.StreamWriter) -> bool:
        self.seen.append(Seen(raw, self._fault(hashlib.blake2b(raw, digest_size=10).hexdigest())))
        kept = await super()._complete(raw, auth, writer)
        self.sent.append(raw)
        self.last_sent = time.monotonic()
        return kept

    def quiet(self, seconds: float) -> bool:
        """Whether nothing was sent lately."""
        return time.monotonic() - self.last_sent > seconds

    def answers(self, answered: Collection[bytes]) -> list[Seen]:
        """Of each of these requests, the time that it was answered: the last that was asked."""
        return [seen for raw, seen in {s.raw: s for s in self.seen}.items() if raw in answered]

    @property
    def served_again(self) -> int:
        """Answers that were made a second time, or more often."""
        return sum(times - 1 for times in self.stats.served.values())

    def injected(self, *kinds: str) -> int:
        return sum(self.stats.faults[kind] for kind in kinds)


@dataclass
class World:
    """One run directory, its configuration file and its journal, beside one another."""

    folder: Path
    planted: Planted
    _asked: dict[bytes, int] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.sqlite"

    def command(self, server: LLMServer, *chosen: str, timeout: float = 30.0) -> list[str]:
        """The command that runs it, with a configuration file; ``timeout`` is the model's."""
        llm = {"model": "test", "base_url": server.url, "timeout": timeout}
        overrides = [
            *settings(self.planted, *LATENTS),
            WINDOWS,
            f"llms={json.dumps({'explainer': llm, 'judge': llm})}",
            f"journal={json.dumps(str(self.journal))}",
            "scorers=[{kind: detection, judge: {kind: llm, texts_per_prompt: 10}}]",
            *chosen,
        ]
        self.folder.mkdir(exist_ok=True)
        file = self.folder / "config.yaml"
        file.write_text(load_config(None, overrides).to_yaml())
        return ["run", "--json", "--config", str(file), "--run", str(self.run)]

    def answered(self, server: LLMServer) -> set[bytes]:
        """Of the requests that the server has seen, those whose reply is in the journal."""
        keys = set(self._rows("SELECT key FROM replies"))
        raws = {seen.raw for seen in server.seen}
        return {raw for raw in raws if key_of(f"openai {server.url}", raw, 0) in keys}

    def check_nothing_asked_again(self, server: Recorder) -> None:
        """Requests whose reply was in the journal at the last call have not come since."""
        asked = Counter(seen.raw for seen in server.seen)
        assert {raw: asked[raw] for raw in self._asked} == self._asked
        self._asked = {raw: asked[raw] for raw in self.answered(server)}

    def in_flight(self) -> int:
        """Requests that were sent and have no reply, whatever became of them."""
        found = "SELECT DISTINCT key FROM intents WHERE key NOT IN (SELECT key FROM replies)"
        return len(self._rows(found)) if self.journal.exists() else 0

    def _rows(self, select: str) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.journal)) as connection:
            return [row[0] for row in connection.execute(select)]

    def accounts(self) -> tuple[Cost, Cost]:
        """What the run has spent, and what may have been billed besides."""

        async def read() -> tuple[Cost, Cost]:
            async with Journal(self.journal, str(self.run.resolve())) as journal:
                return journal.spent(), journal.possibly_billed()

        return asyncio.run(read())


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


def killed(command: list[str], server: Recorder, requests: int, after: float) -> bool:
    """Kill the command some seconds after so many requests; whether it was still running."""
    process = start(command, AT_ONCE)
    goal = len(server.seen) + requests
    while len(server.seen) < goal and process.poll() is None:
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.kill()
    process.communicate()
    time.sleep(0.1)  # what was on its way arrives at the server, and is counted
    return process.returncode < 0
