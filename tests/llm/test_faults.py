"""Faults, kills and neighbours: every request ends, and nothing answered is asked again."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llm_server import CONTENT_FAULTS, TRANSPORT_FAULTS, Body, LLMServer, _send

from autointerp.latents import AutointerpError
from autointerp.llm.accounts import Ledger
from autointerp.llm.client import BudgetExhausted, LLMFailure, Message, Reply, Request
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import open_llms
from autointerp.sections import LLMSection

WORKER = Path(__file__).parent / "worker.py"
SCHEMA = {
    "type": "object",
    "properties": {"labels": {"type": "array", "items": {"type": "boolean"}, "minItems": 2}},
    "required": ["labels"],
    "additionalProperties": False,
}


def question(number: int) -> Request:
    return Request((Message("user", f"number {number}"),), schema=SCHEMA)


@dataclass(frozen=True)
class Aftermath:
    """What came back, the accounts, and how many answers the journal knows or fears of."""

    replies: list[Any]
    ledger: Ledger
    accounted: int


async def storm(url: str, journal: Path, count: int, timeout: float) -> Aftermath:
    section = LLMSection(model="test", base_url=url, timeout=timeout, concurrency=64)
    backoff = Backoff(base=0, attempts=12)
    async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
        ask = llms.clients["judge"].complete
        replies = await asyncio.gather(
            *(ask(question(n)) for n in range(count)), return_exceptions=True
        )
        spent, maybe = llms.journal.spent(), llms.journal.possibly_billed()
        return Aftermath(replies, llms.ledger, spent.requests + maybe.requests)


def test_every_request_ends_in_a_storm_of_mixed_faults(tmp_path: Path) -> None:
    kinds = (*TRANSPORT_FAULTS, *CONTENT_FAULTS)
    faults = dict.fromkeys(kinds, 0.2 / len(kinds))
    with LLMServer(faults=faults) as server:
        after = asyncio.run(storm(server.url, tmp_path / "j.sqlite", 300, 0.4))
        served = sum(server.stats.served.values())
        assert set(server.stats.faults) == set(kinds)
    assert all(isinstance(reply, Reply | LLMFailure) for reply in after.replies)
    failed = [reply for reply in after.replies if isinstance(reply, LLMFailure)]
    assert len(failed) == after.ledger.unusable
    assert len(failed) <= 6  # two content faults in a row: 0.3 % of requests
    assert after.ledger.repaired > 0
    assert served <= after.accounted


def test_transport_faults_leave_no_trace(tmp_path: Path) -> None:
    faults = dict.fromkeys(TRANSPORT_FAULTS, 0.2 / len(TRANSPORT_FAULTS))
    with LLMServer() as calm, LLMServer(faults=faults) as stormy:
        without = asyncio.run(storm(calm.url, tmp_path / "calm.sqlite", 100, 0.3))
        after = asyncio.run(storm(stormy.url, tmp_path / "stormy.sqlite", 100, 0.3))
    assert [r.data for r in after.replies] == [r.data for r in without.replies]
    assert [r.usage for r in after.replies] == [r.usage for r in without.replies]
    assert sum(after.ledger.faults.values()) > 0


@pytest.mark.parametrize("kind", TRANSPORT_FAULTS)
def test_a_fault_without_end_is_a_failure_that_names_it(kind: str, tmp_path: Path) -> None:
    async def work(url: str) -> None:
        # An answer that is late on a busy machine would count as one that may have been billed.
        timeout = 0.1 if kind in ("hang", "trickle") else 30.0
        section = LLMSection(model="test", base_url=url, timeout=timeout)
        backoff = Backoff(base=0, attempts=2)
        journal = tmp_path / "j.sqlite"
        async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
            with pytest.raises(LLMFailure, match="no answer in 2 attempts"):
                await llms.clients["judge"].complete(question(0))
            billed = 0 if kind in ("429", "503", "500") else 2
            assert llms.journal.possibly_billed().requests == billed
            assert llms.journal.spent().requests == 0

    with LLMServer(faults={kind: 1.0}) as server:
        asyncio.run(work(server.url))


class Refusing(LLMServer):
    """Answers every request with an error."""

    def __init__(self, status: int, error: dict[str, str]) -> None:
        super().__init__()
        self.status, self.error = status, error

    async def _reply(self, reply: Body, fault: str | None, writer: Any) -> bool:
        return await _send(writer, self.status, {"error": self.error})


LONG = "so much to say first, " * 20


@pytest.mark.parametrize(
    ("status", "error", "raised", "words"),
    [
        (402, {"message": "no money"}, BudgetExhausted, "put money on the account"),
        (429, {"message": LONG, "code": "insufficient_quota"}, BudgetExhausted, "put money"),
        (404, {"message": "no such model"}, AutointerpError, "are model and base_url right"),
        (400, {"message": "no such field"}, LLMFailure, "no such field"),
        # The request that is repeated in it says response_format.
        (400, {"message": LONG, "request": "response_format"}, LLMFailure, "answered 400"),
    ],
)
def test_a_refusal_is_told_at_once_and_costs_nothing(
    status: int, error: dict[str, str], raised: type[Exception], words: str, tmp_path: Path
) -> None:
    async def work(url: str) -> None:
        sections = {"judge": LLMSection(model="test", base_url=url)}
        async with open_llms(sections, journal=tmp_path / "j.sqlite") as llms:
            with pytest.raises(raised, match=words):
                await llms.clients["judge"].complete(question(0))
            assert llms.journal.possibly_billed().requests == 0

    with Refusing(status, error) as server:
        asyncio.run(work(server.url))
        assert len(server.stats.arrivals) == 1


def test_nobody_there_is_a_failure_and_not_billed(tmp_path: Path) -> None:
    async def work() -> None:
        section = LLMSection(model="test", base_url="http://127.0.0.1:9/v1")
        backoff, journal = Backoff(base=0, attempts=2), tmp_path / "j.sqlite"
        async with open_llms({"judge": section}, journal=journal, backoff=backoff) as llms:
            with pytest.raises(BudgetExhausted, match=r"nobody answers.*cannot connect.*run again"):
                await llms.clients["judge"].complete(question(0))
            assert llms.journal.possibly_billed().requests == 0

    asyncio.run(work())


def start(url: str, journal: Path, run: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, WORKER, url, journal, run, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed(url: str, journal: Path, count: int, after: int) -> list[str]:
    """The numbers that a worker got answered before it was killed, after that many at least."""
    process = start(url, journal, "run", count)
    assert process.stdout is not None
    got = [process.stdout.readline().strip() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    return got + process.communicate()[0].split()


def test_kills_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    count, asked, known = 120, Counter[str](), dict[str, int]()
    journal = tmp_path / "j.sqlite"

    def answer(body: dict[str, Any]) -> str:
        asked[body["messages"][0]["content"]] += 1
        return "fine"

    faults = {"429": 0.05, "reset": 0.05, "500": 0.05, "truncated": 0.05}
    with LLMServer(answer=answer, faults=faults, latency=0.03) as server:
        for after in (20, 60):
            got = killed(server.url, journal, count, after)
            time.sleep(0.1)  # what was in flight arrives and is counted
            assert {n: asked[n] for n in known} == known
            known = {n: asked[n] for n in got}
        last = start(server.url, journal, "run", count)
        *numbers, totals = last.communicate(timeout=60)[0].splitlines()
        assert {n: asked[n] for n in known} == known
        served = sum(server.stats.served.values())
        broken = server.stats.faults["reset"] + server.stats.faults["truncated"]
    assert sorted(map(int, numbers)) == list(range(count))
    accounts = json.loads(totals)
    assert accounts["spent"] == count
    assert served <= accounts["spent"] + accounts["maybe"]
    assert sum(times - 1 for times in asked.values()) <= 16 * 2 + broken


def test_stopping_takes_no_time_and_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    async def work(url: str) -> float:
        section = LLMSection(model="test", base_url=url)
        async with open_llms({"judge": section}, journal=tmp_path / "j.sqlite") as llms:
            ask = llms.clients["judge"].complete
            tasks = [asyncio.create_task(ask(question(n))) for n in range(100)]
            while llms.journal.spent().requests < 20:
                await asyncio.sleep(0.01)
            begin = time.monotonic()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return time.monotonic() - begin

    async def again(url: str) -> int:
        section = LLMSection(model="test", base_url=url)
        async with open_llms({"judge": section}, journal=tmp_path / "j.sqlite") as llms:
            return llms.journal.spent().requests

    with LLMServer(faults={"hang": 0.3}) as server:
        assert asyncio.run(work(server.url)) < 2
        assert asyncio.run(again(server.url)) >= 20


def test_two_processes_share_a_journal(tmp_path: Path) -> None:
    with LLMServer(latency=0.01) as server:
        both = [start(server.url, tmp_path / "j.sqlite", name, 60) for name in ("one", "two")]
        outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
        third = start(server.url, tmp_path / "j.sqlite", "three", 60)
        accounts = json.loads(third.communicate(timeout=60)[0].splitlines()[-1])
        assert accounts == {"spent": 0, "maybe": 0}
        served = sum(server.stats.served.values())
        assert set(server.stats.served) == set(server.stats.asked)
    totals = [json.loads(lines[-1]) for lines in outputs]
    assert all(len(lines) == 61 for lines in outputs)
    assert sum(total["spent"] for total in totals) == 60
    assert served == sum(total["spent"] + total["maybe"] for total in totals)
