"""Requests through all layers, against the test server."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from llm_asking import SCHEMA, ask_one, asking, question, run
from llm_server import LLMServer
from pydantic import BaseModel, model_validator

from autointerp.llm.bodies import NOT_IN_KEY
from autointerp.llm.client import LLMFailure, Message, Reply, Request
from autointerp.llm.opening import LLMs
from autointerp.llm.templates import Templates, ask
from autointerp.sections import PriceSection


def test_a_reply_has_text_usage_and_price(tmp_path: Path) -> None:
    prices = PriceSection(prompt=1000, cached=100, completion=2000)
    with LLMServer(answer=lambda body: "yes, " * 40, cached_share=0.5) as server:
        reply = ask_one(server, tmp_path, question("x" * 400), prices=prices)
    usage = reply.usage
    assert reply.text == "yes, " * 40
    assert reply.data is None
    assert usage.prompt_tokens > usage.cached_tokens > 0
    fresh = usage.prompt_tokens - usage.cached_tokens
    expected = fresh * 1000 + usage.cached_tokens * 100 + usage.completion_tokens * 2000
    assert usage.dollars == pytest.approx(expected / 1e6)


def test_what_was_answered_is_never_asked_again(tmp_path: Path) -> None:
    with LLMServer() as server:
        first = ask_one(server, tmp_path, question("a", schema=SCHEMA), name="one")
        again = ask_one(server, tmp_path, question("a", schema=SCHEMA), name="two")
        assert sum(server.stats.served.values()) == 1
    assert (first.journaled, again.journaled) == (False, True)
    assert dataclasses.replace(again, journaled=False) == first


def test_identical_requests_in_flight_are_asked_once(tmp_path: Path) -> None:
    with LLMServer(latency=0.05) as server:
        replies = run(server, tmp_path, asking([question("same")] * 20))
        assert sum(server.stats.served.values()) == 1
    assert {reply.text for reply in replies} == {replies[0].text}
    assert [reply.journaled for reply in replies].count(False) == 1


def test_who_waits_asks_when_the_asker_is_cancelled(tmp_path: Path) -> None:
    async def work(llms: LLMs) -> str:
        client = llms.clients["judge"]
        leader = asyncio.create_task(client.complete(question("same")))
        await asyncio.sleep(0.02)
        follower = asyncio.create_task(client.complete(question("same")))
        await asyncio.sleep(0.02)
        leader.cancel()
        return (await follower).text

    with LLMServer(answer=lambda body: "here", latency=0.1) as server:
        assert run(server, tmp_path, work) == "here"


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", "b"),)},
        {"schema": SCHEMA},
        {"temperature": 0.5},
        {"max_tokens": 7},
        {"seed": 3},
        {"top_logprobs": 2},
        {"repeat": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_shapes_the_answer_is_in_the_key(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with LLMServer() as server:
        one, other = run(
            server,
            tmp_path,
            asking([question("a"), dataclasses.replace(question("a"), **change)]),
        )
    assert one.key != other.key


def test_only_the_named_fields_are_left_out_of_the_key(tmp_path: Path) -> None:
    fields = {field.name for field in dataclasses.fields(Request)}
    tested = {
        *("messages", "schema", "temperature", "max_tokens", "seed", "top_logprobs", "repeat"),
        "echo",
    }
    assert fields - tested == NOT_IN_KEY
    with LLMServer() as server:
        a, b, c = (
            ask_one(server, tmp_path, question("a", purpose="p")),
            ask_one(server, tmp_path, question("a"), timeout=9.0, concurrency=3),
            ask_one(server, tmp_path, question("a"), model="other"),
        )
    assert a.key == b.key != c.key


def test_a_structured_reply_is_parsed_and_fits(tmp_path: Path) -> None:
    with LLMServer() as server:
        reply = ask_one(server, tmp_path, question("a", schema=SCHEMA))
    assert set(reply.data) == {"labels", "why"}
    assert len(reply.data["labels"]) == 4


def test_a_server_without_structured_outputs_is_asked_by_prompt_and_remembered(
    tmp_path: Path,
) -> None:
    def fenced(body: dict[str, Any]) -> str:
        assert '"minItems"' in body["messages"][0]["content"]
        return 'Sure [1]:\n```json\n{"labels": [true, true, false, true], "why": "w"}\n```'

    with LLMServer(answer=fenced, structured=False) as server:
        first = ask_one(server, tmp_path, question("a", schema=SCHEMA))
        ask_one(server, tmp_path, question("b", schema=SCHEMA))
        assert first.data["labels"] == [True, True, False, True]
        assert len(server.stats.arrivals) == 3  # one refusal, two answers
        with pytest.raises(LLMFailure, match="response_format"):
            ask_one(server, tmp_path, question("c", schema=SCHEMA), structured="schema")


@pytest.mark.parametrize("kind", ["prose", "wrong_length", "garbage"])
def test_an_unusable_reply_is_repaired_once_and_then_counted(kind: str, tmp_path: Path) -> None:
    with LLMServer(faults={kind: 1.0}) as server:

        async def work(llms: LLMs) -> tuple[int, int]:
            for _ in range(2):  # the second time from the journal
                with pytest.raises(LLMFailure, match="nor after one repair"):
                    await llms.clients["judge"].complete(question("a", schema=SCHEMA))
            return llms.ledger.unusable, llms.ledger.total.spent.requests

        assert run(server, tmp_path, work) == (2, 2)
        assert sum(server.stats.served.values()) == 2


def test_the_repair_shows_the_reply_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    seen = []

    def second_try(body: dict[str, Any]) -> Any:
        seen.append(body["messages"])
        good = {"labels": [True] * 4, "why": "w"}
        return good if len(body["messages"]) > 2 else {"labels": [True] * 3, "why": "w"}

    with LLMServer(answer=second_try) as server:
        reply = ask_one(server, tmp_path, question("a", schema=SCHEMA))
    assert reply.data["labels"] == [True] * 4
    *_, said, complaint = seen[1]
    assert said["role"] == "assistant"
    assert said["content"] == '{"labels": [true, true, true], "why": "w"}'
    assert "$.labels" in complaint["content"]
    assert "too short" in complaint["content"]
    assert reply.answers == 2
    assert reply.usage.prompt_tokens == sum(len(json.dumps(messages)) // 4 for messages in seen)


class Sorted(BaseModel):
    numbers: list[int]

    @model_validator(mode="after")
    def _ascending(self) -> Sorted:
        if self.numbers != sorted(self.numbers):
            raise ValueError("the numbers must ascend")
        return self


def test_ask_reads_a_typed_reply_and_repairs_what_the_type_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "sort.j2").write_text("{% call user() %}Sort {{ what }}.{% endcall %}")

    def answer(body: dict[str, Any]) -> Any:
        asked_again = "must ascend" in body["messages"][-1]["content"]
        return {"numbers": [1, 2] if asked_again else [2, 1]}

    async def work(llms: LLMs) -> tuple[Sorted, Reply]:
        client = llms.clients["judge"]
        return await ask(client, Templates(folder), "sort", Sorted, {"what": "2 1"})

    with LLMServer(answer=answer) as server:
        value, reply = run(server, tmp_path, work)
    assert value.numbers == [1, 2]
    assert not reply.journaled


def test_logprobs_come_with_the_likeliest_others(tmp_path: Path) -> None:
    with LLMServer(answer=lambda body: "yes no") as server:
        reply = ask_one(server, tmp_path, question("a", top_logprobs=2))
        again = ask_one(server, tmp_path, question("a", top_logprobs=2))
    assert reply.logprobs is not None
    assert [entry.token for entry in reply.logprobs] == ["yes", "no"]
    assert [len(entry.top) for entry in reply.logprobs] == [2, 2]
    assert again.logprobs == reply.logprobs


def test_text_that_no_server_can_read_is_made_readable(tmp_path: Path) -> None:
    nasty = "a\0b \ud800 \ud83d\ude00 \U0001f600 '\"\\\n"
    with LLMServer(answer=lambda body: body["messages"][-1]["content"] + "\0\udfff") as server:
        reply = ask_one(server, tmp_path, question(nasty))
    assert reply.text == "a\u2400b \ufffd \U0001f600 \U0001f600 '\"\\\n\u2400\ufffd"
    reply.text.encode()


def test_what_the_configuration_adds_is_sent(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    extra = {"temperature": None, "top_p": 0.5}
    with LLMServer(answer=lambda body: seen.update(body) or "ok") as server:
        ask_one(server, tmp_path, question("a"), extra_body=extra, max_tokens=5)
    assert "temperature" not in seen
    assert (seen["top_p"], seen["max_tokens"]) == (0.5, 5)
