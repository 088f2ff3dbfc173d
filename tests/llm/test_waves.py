"""Requests that go out in waves, through a loopback Batch API and all that may befall them."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer
from llm_asking import SCHEMA, asking, question, run
from llm_server import LLMServer

from autointerp.latents import AutointerpError
from autointerp.llm.client import BudgetExhausted, LLMFailure, Message, Reply, Request
from autointerp.llm.opening import LLMs
from autointerp.sections import BatchSection, BudgetSection, PriceSection

QUICK = {"poll_seconds": 0.01, "idle_seconds": 0.05}
PRICES = PriceSection(prompt=1000, completion=1000)


def questions(count: int, **fields: Any) -> list[Request]:
    return [question(f"number {i}", **{"schema": SCHEMA, **fields}) for i in range(count)]


def waves(server: LLMServer, folder: Path, work: Any, **options: Any) -> Any:
    batch = BatchSection(**{**QUICK, **options.pop("batch", {})})
    return run(server, folder, work, backend="openai-batch", batch=batch, **options)


def ask(server: LLMServer, folder: Path, count: int, **options: Any) -> list[Any]:
    found: list[Any] = waves(server, folder, asking(questions(count)), **options)
    return found


def texts(replies: list[Any]) -> list[str]:
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [reply.text for reply in replies]


def open_batches(folder: Path) -> int:
    with sqlite3.connect(folder / "journal.sqlite") as journal:
        rows: int = journal.execute("SELECT count(*) FROM batches").fetchone()[0]
    return rows


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.glob("batches/**/*") if path.is_file()]


def test_one_wave_answers_as_single_requests_do(tmp_path: Path) -> None:
    with LLMServer() as single, BatchServer() as batched:
        expected = run(single, tmp_path / "single", asking(questions(20)))
        found = ask(batched, tmp_path, 20)
        assert batched.sizes == [20]
        again = ask(batched, tmp_path, 20)
        assert batched.sizes == [20]
    assert texts(found) == texts(expected) == texts(again)
    assert [reply.usage.prompt_tokens for reply in found] == [
        reply.usage.prompt_tokens for reply in expected
    ]
    assert not any(reply.journaled for reply in found)
    assert all(reply.journaled for reply in again)
    assert open_batches(tmp_path) == 0
    assert left_over(tmp_path) == []


def test_what_was_asked_at_once_is_not_asked_again_in_waves(tmp_path: Path) -> None:
    with BatchServer(online=True) as server:
        one_by_one = run(server, tmp_path, asking(questions(3)))
        assert texts(ask(server, tmp_path, 5))[:3] == texts(one_by_one)
        assert server.sizes == [2]


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"requests": 4}, [4, 4, 2]),
        ({"megabytes": 0.0015}, [2, 2, 2, 2, 2]),
        ({"enqueued_tokens": 600}, [3, 3, 3, 1]),
        ({"in_flight": 5}, [5, 5]),
    ],
    ids=lambda value: str(value),
)
def test_limits_split_a_wave(limits: dict[str, Any], sizes: list[int], tmp_path: Path) -> None:
    with BatchServer() as server:
        texts(ask(server, tmp_path, 10, batch=limits))
        assert server.sizes == sizes


def test_no_more_is_queued_at_a_time_than_may_be(tmp_path: Path) -> None:
    most = 700
    with BatchServer(most_tokens=most) as server:
        texts(ask(server, tmp_path, 10, batch={"enqueued_tokens": most}))
        assert not [b for b in server.batches.values() if b.status == "failed"]


def test_a_queue_that_is_full_is_waited_for_and_too_large_a_batch_is_halved(
    tmp_path: Path,
) -> None:
    with BatchServer(most_tokens=700) as server:
        assert len(texts(ask(server, tmp_path, 10))) == 10
        assert server.sizes[0] == 10
        assert max(server.stats.served.values()) == 1
    assert open_batches(tmp_path) == 0


@pytest.mark.parametrize("fate", ["expired", "cut", "errors", "429", "lost", "500", "queued"])
def test_nothing_is_lost_or_answered_twice(fate: str, tmp_path: Path) -> None:
    with LLMServer() as single, BatchServer(fates=[fate]) as batched:
        expected = run(single, tmp_path / "single", asking(questions(9)))
        assert texts(ask(batched, tmp_path, 9)) == texts(expected)
        assert max(batched.stats.served.values()) == 1
        sizes = {"expired": [9, 5], "cut": [9, 5], "errors": [9, 3], "queued": [9, 9]}
        assert batched.sizes == sizes.get(fate, [9])
    assert open_batches(tmp_path) == 0
    assert left_over(tmp_path) == []


def test_unanswered_requests_are_not_billed(tmp_path: Path) -> None:
    async def work(llms: LLMs) -> tuple[int, int, int]:
        replies = await asking(questions(8))(llms)
        spent, maybe = llms.journal.spent(), llms.journal.possibly_billed()
        assert sum(reply.usage.dollars for reply in replies) == pytest.approx(spent.dollars)
        return spent.requests, maybe.requests, llms.ledger.faults["timeout"]

    with BatchServer(fates=["expired"]) as server:
        assert waves(server, tmp_path, work, prices=PRICES) == (8, 0, 4)


def test_a_batch_that_is_refused_ends_the_run_in_one_line(tmp_path: Path) -> None:
    with BatchServer(fates=["failed"]) as server:
        found = ask(server, tmp_path, 3)
    assert all(isinstance(error, AutointerpError) for error in found)
    assert "batch batch-0 was refused: The model is not supported" in str(found[0])
    assert open_batches(tmp_path) == 0


def test_a_cancelled_batch_stops_the_run_and_keeps_what_it_brought(tmp_path: Path) -> None:
    with BatchServer(fates=["cancelled"]) as server:
        first = ask(server, tmp_path, 6)
        assert [type(found) for found in first] == [Reply] * 3 + [BudgetExhausted] * 3
        assert len(texts(ask(server, tmp_path, 6))) == 6
        assert server.sizes == [6, 3]


def test_a_request_that_never_succeeds_fails_alone(tmp_path: Path) -> None:
    with BatchServer(fates=["expired"] * 20) as server:
        found = ask(server, tmp_path, 2)
    assert isinstance(found[0], Reply)
    assert isinstance(found[1], LLMFailure)
    assert "in 8 waves" in found[1].reason


def test_unusable_replies_are_repaired_in_another_wave(tmp_path: Path) -> None:
    with BatchServer(faults={"prose": 0.3}, seed=2) as server:
        found = ask(server, tmp_path, 20)
        assert server.sizes[0] == 20
        assert 0 < server.sizes[1] < 20
        assert any(isinstance(reply, Reply) and reply.answers == 2 for reply in found)


def test_an_endpoint_without_structured_outputs_is_asked_by_prompt(tmp_path: Path) -> None:
    def fenced(body: dict[str, Any]) -> str:
        return '```json\n{"labels": [true, true, false, true], "why": "w"}\n```'

    with BatchServer(fenced, structured=False) as server:
        assert len(texts(ask(server, tmp_path, 3))) == 3
        assert server.sizes == [3, 3]


def test_plain_completions_go_in_batches_of_their_own(tmp_path: Path) -> None:
    echo = Request((Message("user", "a text"),), echo=True)
    with BatchServer() as server:
        found = waves(server, tmp_path, asking([question("q"), echo]))
        assert [reply.logprobs is not None for reply in found] == [False, True]
        endpoints = {batch.endpoint for batch in server.batches.values()}
        assert endpoints == {"/v1/chat/completions", "/v1/completions"}


def test_a_request_that_was_given_up_and_asked_again_is_one_line(tmp_path: Path) -> None:
    async def work(llms: LLMs) -> Reply:
        client, (request,) = llms.clients["judge"], questions(1)
        first = asyncio.create_task(client.complete(request))
        await asyncio.sleep(0.05)
        first.cancel()
        return await client.complete(request)

    with BatchServer() as server:
        assert waves(server, tmp_path, work, batch={"idle_seconds": 0.5}).text
        assert server.sizes == [1]


def test_a_wave_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "batches").write_text("in the way")
    with BatchServer() as server:
        found = ask(server, tmp_path, 2)
    assert all(isinstance(error, AutointerpError) for error in found)
    assert "cannot write a batch file" in str(found[0])


def test_a_budget_holds_across_waves(tmp_path: Path) -> None:
    budget = BudgetSection(prompt_tokens=1000)
    with BatchServer() as server:
        found = ask(server, tmp_path, 60, budget=budget)
        replies = [reply for reply in found if isinstance(reply, Reply)]
        assert sum(reply.usage.prompt_tokens for reply in replies) <= 1000
        assert {type(reply) for reply in found} == {Reply, BudgetExhausted}
        assert len(server.sizes) > 1  # what was set aside for the first was more than it cost


def test_a_wrong_key_is_told_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-secret")
    with BatchServer(api_key="right") as server:
        (error,) = ask(server, tmp_path, 1)
    assert isinstance(error, AutointerpError)
    assert "is the key in OPENAI_API_KEY right?" in str(error)
    assert "sk-wrong-secret" not in repr(error)


def killed(server: BatchServer, folder: Path, count: int) -> None:
    """Ask, and stop before there are answers as SIGKILL does, as far as the journal is concerned:
    nothing is struck out. The batch ends later.
    """
    server.held = True

    async def work(llms: LLMs) -> None:
        asked = asyncio.create_task(asking(questions(count))(llms))
        while not any(batch.looks for batch in server.batches.values()):
            await asyncio.sleep(0.005)
        asked.cancel()

    waves(server, folder, work)
    server.held = False


def test_what_is_under_way_is_waited_for_at_the_next_start(tmp_path: Path) -> None:
    with BatchServer() as server:
        killed(server, tmp_path, 6)
        assert open_batches(tmp_path) == 1

        async def work(llms: LLMs) -> list[Any]:
            assert llms.journal.spent().requests == 6
            assert llms.journal.possibly_billed().requests == 0
            return await asking(questions(8))(llms)

        found = waves(server, tmp_path, work)
        assert len(texts(found)) == 8
        assert [reply.journaled for reply in found] == [True] * 6 + [False] * 2
        assert server.sizes == [6, 2]
    assert open_batches(tmp_path) == 0


def test_a_batch_whose_name_was_lost_is_found_by_its_mark(tmp_path: Path) -> None:
    with BatchServer() as server:
        killed(server, tmp_path, 4)
        with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
            journal.execute("UPDATE batches SET name = NULL")
        for number in range(5):  # others of the account, so that there is more than a page
            server._create({**server.batches["batch-0"].as_json(), "metadata": {"n": str(number)}})
        assert all(reply.journaled for reply in ask(server, tmp_path, 4))
        assert len(server.sizes) == 6


def test_a_batch_that_was_never_made_is_asked_anew_and_costs_nothing(tmp_path: Path) -> None:
    with BatchServer() as server:
        killed(server, tmp_path, 4)
        with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
            journal.execute("UPDATE batches SET name = NULL")
        server.batches.clear()

        async def work(llms: LLMs) -> list[Any]:
            assert llms.journal.possibly_billed().requests == 0
            return await asking(questions(4))(llms)

        assert len(texts(waves(server, tmp_path, work))) == 4
        assert server.sizes == [4]


def test_a_batch_that_is_gone_is_not_given_up_until_another_key_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchServer() as server:
        killed(server, tmp_path, 4)
        server.batches.clear()
        said = r"404.*batch batch-0 .*llms\.judge\.api_key_env"
        with pytest.raises(AutointerpError, match=said):
            ask(server, tmp_path, 4)
        assert open_batches(tmp_path) == 1
        monkeypatch.setenv("ANOTHER_KEY", "any")
        texts(ask(server, tmp_path, 4, api_key_env="ANOTHER_KEY"))
        assert server.sizes == [4]


def test_other_runs_have_batches_of_their_own(tmp_path: Path) -> None:
    with BatchServer() as server:
        killed(server, tmp_path, 4)
        assert not any(reply.journaled for reply in ask(server, tmp_path, 4, name="another"))
        assert server.sizes == [4, 4]
