"""Whole runs that ask the test server: how they start, what the server saw, what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from llm_models import REPAIR
from llm_server import LLMServer
from planted_coders import Planted
from small_run import settings, start

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.latents import Choice, Cost, Explanation, Label, Score
from autointerp.llm.journal import Journal, key_of
from autointerp.pipeline import tools
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import SCORED_STATUSES, TRUE, Scored

EXPLAINERS = {
    "agent": "explainer={kind: agent, roles: llm, select: 10}",
    "single_pass": "explainer={kind: single_pass, revise: true}",
}
LATENTS, WINDOWS = ("alive:4", "alive:3"), "examples.test.sampled=20"
AT_ONCE = """
from functools import partial
from autointerp.pipeline import tools
tools.Backoff = partial(tools.Backoff, base=0)
"""


def prepare_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What AT_ONCE does to others: no waits between attempts. And a key."""
    monkeypatch.setattr(tools, "Backoff", partial(tools.Backoff, base=0))
    monkeypatch.setenv("OPENAI_API_KEY", "test")


def one_model(url: str, journal: Path, **llm: Any) -> list[str]:
    """Overrides: one model at ``url`` explains and judges, with the options of ``llm``."""
    section = {"model": "test", "base_url": url, **llm}
    return [
        f"llms={json.dumps({'explainer': section, 'judge': section})}",
        f"journal={json.dumps(str(journal))}",
    ]


def collect(run: Path, planted: Planted) -> Path:
    """A run directory in which nothing is explained yet."""
    chosen = [*settings(planted, *LATENTS), WINDOWS]
    assert main(["collect", "--json", "--run", str(run), *chosen]) == 0
    return run


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
        overrides = [
            *settings(self.planted, *LATENTS),
            WINDOWS,
            *one_model(server.url, self.journal, timeout=timeout),
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


def world(folder: Path, planted: Planted, collected: Path) -> World:
    """A run of its own over what was collected."""
    shutil.copytree(collected, folder / "run")
    return World(folder, planted)


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


def rows(run: Path) -> tuple[list[Explanation], list[Scored]]:
    """All rows of a run with their details, outcomes and costs, less what differs by nature:
    the seconds, and the journal's keys, which hold the server's address."""

    def timeless(cost: Cost) -> Cost:
        return replace(cost, seconds=0.0)

    def plain(score: Score) -> Score:
        """Requests are numbered in the order in which outcomes name them."""
        names = [getattr(o, "request", None) for o in score.outcomes]
        numbers = {name: str(i) for i, name in enumerate(dict.fromkeys(filter(None, names)))}
        outcomes = [
            o._replace(request=numbers[o.request])
            if isinstance(o, Label | Choice) and o.request is not None
            else o
            for o in score.outcomes
        ]
        return replace(score, outcomes=outcomes, cost=timeless(score.cost))

    with Results.read(run / "results.sqlite") as results:
        explanations = results.explanations(details=True)
        scores = list(results.scores(outcomes=True))
    for explanation in explanations:
        explanation.details.pop("request", None)
    return (
        [replace(e, cost=timeless(e.cost)) for e in explanations],
        [replace(s, score=plain(s.score)) for s in scores],
    )


def check_complete(run: Path, latents: int = 7) -> tuple[list[Explanation], list[Scored]]:
    """Every latent has its result, every explanation its scores, and every failure its reason."""
    explanations, scores = rows(run)
    assert len(explanations) == latents
    judged = {(s.score.explanation, s.control): s.score.status for s in scores}
    for explanation in explanations:
        assert explanation.status == "explained" or explanation.reason
        if explanation.status in SCORED_STATUSES:
            assert (explanation.id, TRUE) in judged
        if explanation.status == "explained" and judged[explanation.id, TRUE] == "scored":
            assert (explanation.id, "empty") in judged
    return explanations, scores
