"""The journal's file, prices, and where the journal lies."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from autointerp.latents import AutointerpError
from autointerp.llm.client import TokenLogprob, Usage
from autointerp.llm.journal import Journal, default_path
from autointerp.llm.journal_file import pack, unpack
from autointerp.llm.pricing import dollars, prices_of
from autointerp.llm.transport import Answer
from autointerp.sections import LLMSection, PriceSection

NASTY = Answer(
    "a\0\ud800 \U0001f600\n",
    Usage(10, 4, 3, 0.25),
    (TokenLogprob("a", -0.5, (("b", -1.0),)), TokenLogprob("c", float("-inf"))),
    "stop",
)


def with_journal(path: Path, work: Callable[[Journal], Awaitable[None]], run: str = "r") -> None:
    async def opened() -> None:
        async with Journal(path, run) as journal:
            await work(journal)

    asyncio.run(opened())


def test_an_answer_comes_back_whole(tmp_path: Path) -> None:
    async def write(journal: Journal) -> None:
        intent = await journal.intend("k", Usage(9, 0, 9, 1.0))
        assert journal.possibly_billed().requests == 1
        await journal.record("k", intent, "m", NASTY)

    async def read(journal: Journal) -> None:
        assert journal.find("k") == NASTY
        assert journal.find("other") is None

    with_journal(tmp_path / "j.sqlite", write)
    with_journal(tmp_path / "j.sqlite", read)


def test_long_answers_are_small_in_the_file_and_come_back_whole() -> None:
    tops = tuple((str(digit), -0.1 * digit) for digit in range(5))
    tokens = tuple(TokenLogprob(f"{n % 10}", -0.25, tops) for n in range(40))
    long = Answer("labels \ud800 «é» " * 9, Usage(), tokens, "stop")
    short = Answer("z", Usage())
    for answer in (long, short):
        assert pack(answer).isascii()
        assert unpack(pack(answer), Usage()) == answer
    assert len(pack(long)) < 1000
    assert pack(short).startswith("{")


def test_a_run_knows_what_it_spent_and_what_may_have_been_billed(tmp_path: Path) -> None:
    async def spend(journal: Journal) -> None:
        for key in ("a", "b", "c"):
            intent = await journal.intend(key, Usage(9, 0, 9, 1.0))
            if key == "a":
                await journal.record(key, intent, "m", NASTY)
            if key == "b":
                await journal.forgive(intent)

    async def look(journal: Journal) -> None:
        spent, maybe = journal.spent(), journal.possibly_billed()
        assert (spent.requests, spent.prompt_tokens, spent.cached_tokens) == (1, 10, 4)
        assert (maybe.requests, maybe.prompt_tokens, maybe.dollars) == (1, 9, 1.0)

    async def nothing(journal: Journal) -> None:
        assert journal.spent().requests == journal.possibly_billed().requests == 0

    with_journal(tmp_path / "j.sqlite", spend)
    with_journal(tmp_path / "j.sqlite", look)
    with_journal(tmp_path / "j.sqlite", nothing, run="another")


def test_who_is_cancelled_while_an_intent_is_written_leaves_none(tmp_path: Path) -> None:
    async def cancel(journal: Journal) -> None:
        asked = [asyncio.create_task(journal.intend(f"{n}", Usage(1))) for n in range(40)]
        for task in asked:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        for task in asked:
            if not task.cancelled():
                await journal.forgive(task.result())

    async def look(journal: Journal) -> None:
        assert journal.possibly_billed().requests == 0

    with_journal(tmp_path / "j.sqlite", cancel)
    with_journal(tmp_path / "j.sqlite", look)


def test_a_run_counts_what_its_shards_spent(tmp_path: Path) -> None:
    async def spend(journal: Journal) -> None:
        intent = await journal.intend(journal.run, Usage(9, 0, 9, 1.0))
        await journal.record(journal.run, intent, "m", NASTY)
        await journal.intend("open", Usage(9, 0, 9, 1.0))

    for run in ("/runs/a", "/runs/a/shards/1-of-2", "/runs/ab", "/runs/a0", "/runs"):
        with_journal(tmp_path / "j.sqlite", spend, run=run)

    async def look(journal: Journal) -> None:
        assert journal.spent().requests == journal.possibly_billed().requests == 2

    with_journal(tmp_path / "j.sqlite", look, run="/runs/a")


def test_the_first_answer_stands_and_the_second_stays_possibly_billed(tmp_path: Path) -> None:
    async def both() -> None:
        path = tmp_path / "j.sqlite"
        async with Journal(path, "one") as one, Journal(path, "two") as two:
            first, second = await one.intend("k", Usage(1)), await two.intend("k", Usage(1))
            await one.record("k", first, "m", NASTY)
            stands = await two.record("k", second, "m", Answer("late", Usage(1)))
            assert stands == NASTY
            assert (one.possibly_billed().requests, two.possibly_billed().requests) == (0, 1)
            assert two.spent().requests == 0

    asyncio.run(both())


def test_a_journal_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    async def break_it(journal: Journal) -> None:
        with sqlite3.connect(journal.path) as other:
            other.execute("DROP TABLE intents")
        with pytest.raises(AutointerpError, match="cannot write the journal"):
            await journal.intend("k", Usage(1))

    with_journal(tmp_path / "j.sqlite", break_it)


def test_a_file_that_is_no_journal_or_of_another_version_is_refused(tmp_path: Path) -> None:
    async def nothing(journal: Journal) -> None:
        raise AssertionError("it opened")

    (tmp_path / "text").write_text("this is not a database, and long enough to be sure" * 99)
    with pytest.raises(AutointerpError, match="cannot open the journal"):
        with_journal(tmp_path / "text", nothing)
    with sqlite3.connect(tmp_path / "old") as old:
        old.execute("PRAGMA user_version = 99")
    with pytest.raises(AutointerpError, match="version 99"):
        with_journal(tmp_path / "old", nothing)


def test_the_journal_lies_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "autointerp" / "journal.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".cache" / "autointerp" / "journal.sqlite"


def test_prices_come_from_the_configuration_the_table_or_nowhere() -> None:
    mine = PriceSection(prompt=1, completion=2)
    assert prices_of(LLMSection(model="gpt-4o-mini", prices=mine)) == mine
    table = prices_of(LLMSection(model="gpt-4o-mini"))
    assert table is not None
    assert prices_of(LLMSection(model="gpt-4o-mini-2024-07-18")) == table
    assert prices_of(LLMSection(model="gpt-4o-2024-08-06")) == prices_of(LLMSection(model="gpt-4o"))
    first = PriceSection(prompt=5, completion=15)  # the snapshot kept the price it came with
    assert prices_of(LLMSection(model="gpt-4o-2024-05-13")) == first
    assert prices_of(LLMSection(model="gpt-4o-mini", base_url="https://x.invalid/v1")) is None
    local = prices_of(LLMSection(model="any", base_url="http://127.0.0.1:1/v1"))
    assert dollars(local, Usage(10**6, 0, 10**6)) == 0
    assert dollars(mine, Usage(10**6, 5 * 10**5, 10**6)) == pytest.approx(3)
    assert dollars(None, Usage(1, 0, 1)) == 0
