"""What a configuration says of waves, what they cost, and how many latents wait for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import yaml

from autointerp.config import RunConfig, build_config
from autointerp.latents import AutointerpError
from autointerp.llm.gate import Afloat
from autointerp.llm.pricing import prices_of
from autointerp.llm.queueing import Queue, Room
from autointerp.llm.servers import address, is_openai
from autointerp.pipeline.local import run_tasks
from autointerp.report.progress import asked
from autointerp.sections import BatchSection, LLMSection, PriceSection

BATCHED = {"backend": "openai-batch", "model": "gpt-4o-mini"}


def config(llm: dict[str, Any], **tree: Any) -> RunConfig:
    scorers = [{"kind": "detection", "judge": "llm"}]
    return build_config({"scorers": scorers, "llms": {"judge": llm}, **tree})


def test_batches_cost_half() -> None:
    batched, single = (prices_of(LLMSection(**{**BATCHED, "backend": b}))
                       for b in ("openai-batch", "openai"))  # fmt: skip
    assert batched is not None
    assert single is not None
    assert (batched.prompt, batched.completion) == (single.prompt / 2, single.completion / 2)
    assert batched.cached == (single.cached or 0) / 2
    mine = PriceSection(prompt=1, completion=2)
    assert prices_of(LLMSection(**BATCHED, prices=mine)) == mine
    own = LLMSection(**BATCHED, batch=BatchSection(command=["vllm", "run-batch"]))
    assert prices_of(own) == PriceSection(prompt=0, completion=0)
    assert is_openai(LLMSection(**BATCHED))
    assert not is_openai(own)


def test_an_answer_is_the_same_however_it_was_asked_for() -> None:
    url = "http://127.0.0.1:1/v1"
    assert address(LLMSection(**BATCHED)) == address(LLMSection(model="m"))
    assert address(LLMSection(**BATCHED, base_url=url)) == address(
        LLMSection(model="m", base_url=url)
    )
    program = LLMSection(**BATCHED, batch=BatchSection(command=["vllm", "run-batch"]))
    assert address(program) == address(LLMSection(model="m", backend="vllm"))


@pytest.mark.parametrize(
    ("llm", "said"),
    [
        ({"model": "m", "batch": {}}, "batch is for backend: openai-batch"),
        (
            {**BATCHED, "base_url": "http://h/v1", "batch": {"command": ["x"]}},
            "leave base_url out",
        ),
        ({**BATCHED, "batch": {"polls": 3}}, "polls"),
    ],
)
def test_what_does_not_go_together_is_refused(llm: dict[str, Any], said: str) -> None:
    with pytest.raises(AutointerpError, match=said):
        config(llm)


def test_a_program_is_not_asked_how_likely_texts_are() -> None:
    judge = {"kind": "logprob", "llm": "judge"}
    scorers = [{"kind": "detection", "judge": judge}]
    assert config(BATCHED, scorers=scorers)
    program = {**BATCHED, "batch": {"command": ["vllm", "run-batch"]}}
    with pytest.raises(AutointerpError, match=r"scorers\.0\.judge\.llm: .* name a server"):
        config(program, scorers=scorers)


def test_a_configuration_comes_back_as_it_was() -> None:
    written = config({**BATCHED, "batch": {"requests": 7}})
    assert build_config(yaml.safe_load(written.to_yaml())) == written


def test_as_many_latents_are_in_flight_as_requests_may_wait() -> None:
    waiting = config({**BATCHED, "batch": {"in_flight": 500}})
    assert waiting.in_flight("score") == 500
    assert waiting.in_flight("explain") == 64  # patterns wait for nobody
    assert waiting.in_waves("score")
    assert not waiting.in_waves("explain")
    assert config({"model": "m"}).in_flight("score") == 64


@pytest.mark.parametrize(
    ("explainer", "most"),
    [
        ({"kind": "agent", "roles": "llm", "rounds": 2, "calls": 5, "seconds": 1e7}, 6 + 6),
        ({"kind": "agent", "seconds": 1e7, "judge": {"kind": "llm", "llm": "explainer"}}, 10),
        ({"kind": "single_pass", "revise": True}, 2 + 1),
        ({"tiers": [{"kind": "pattern"}, {"kind": "single_pass"}]}, 1 + 2),
        ({"kind": "single_pass"}, 1),
    ],
)
def test_so_many_waves_are_to_be_allowed_and_no_more(explainer: dict[str, Any], most: int) -> None:
    def allowing(waves: int) -> RunConfig:
        llm = {**BATCHED, "batch": {"allow_waves": waves}}
        return config(llm, explainer=explainer, llms={"judge": llm, "explainer": llm})

    assert allowing(most).explainer["kind"]
    if most > 1:
        said = rf"explainer: asks up to {most} questions.*allow_waves={most}"
        with pytest.raises(AutointerpError, match=said):
            allowing(most - 1)


def test_only_models_that_are_asked_in_waves_count() -> None:
    waves = {**BATCHED, "batch": {"allow_waves": 2}}
    once = {"model": "m"}
    revising = {"kind": "single_pass", "revise": True}
    assert config({}, explainer=revising, llms={"explainer": waves, "judge": once})
    with pytest.raises(AutointerpError, match="allow_waves=3"):
        config({}, explainer=revising, llms={"explainer": waves, "judge": waves})


def test_an_agent_must_be_as_patient_as_its_waves_are_slow() -> None:
    llm = {**BATCHED, "batch": {"allow_waves": 26}}
    with pytest.raises(AutointerpError, match=r"set explainer\.seconds=2246400 to accept"):
        config(
            {}, explainer={"kind": "agent", "roles": "llm"}, llms={"explainer": llm, "judge": llm}
        )


def test_latents_are_begun_while_there_is_room() -> None:
    room, seen = Room(10), []

    async def ask(room: Room) -> None:
        room.waiting += 1
        seen.append(room.waiting)
        await asyncio.sleep(0.001)
        room.leave()

    async def task(number: int) -> int:
        await asyncio.gather(*(ask(room) for _ in range(4)))
        return number

    done: list[int] = []
    work = run_tasks(
        range(100), task, lambda _, number: done.append(number), concurrency=50, room=room.enter
    )
    asyncio.run(work)
    assert sorted(done) == list(range(100))
    assert 10 <= max(seen) < 10 + 2 * 4  # the last that was begun asks beyond it, and hardly more


def test_the_queue_has_room_for_so_many_tokens_or_one_batch() -> None:
    async def work() -> None:
        queue = Queue(100)
        await queue.enter(1000)
        waiting = asyncio.create_task(queue.enter(10))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        queue.leave(1000)
        await waiting
        await queue.enter(90)
        assert queue.batches == 2
        await queue.left(0.01)  # nothing leaves

    asyncio.run(work())


def test_what_is_under_way_is_counted() -> None:
    afloat = Afloat()
    assert afloat.counts() == {}
    afloat.note("a", 5)
    afloat.note("b", 7, 3)
    afloat.note("a", 5, 1)
    assert afloat.counts() == {"batches": 2, "requests": 12, "answered": 4}
    afloat.ashore("b")
    afloat.ashore("a")
    assert afloat.counts() == {}


def test_status_tells_what_is_under_way() -> None:
    llm = {
        "requests": 3,
        "journaled": 0,
        "cached_share": None,
        "waves": {"batches": 2, "requests": 40_000, "answered": 1200},
    }
    said = asked({"llm": llm})
    assert said == "2 batches under way (1,200 of 40,000 answered), 3 answered"
