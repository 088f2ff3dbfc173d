"""Waves whose files a program on this machine answers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from llm_asking import AT_ONCE, asking, question

from autointerp.latents import AutointerpError
from autointerp.llm.batch_program import command_line
from autointerp.llm.client import LLMFailure, Message, Request
from autointerp.llm.opening import LLMs, check_llms, open_llms
from autointerp.sections import BatchSection, BudgetSection, LLMSection

FAKE = [sys.executable, str(Path(__file__).parent / "fake_run_batch.py")]


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAKE_RUN_BATCH_RECORD", str(tmp_path / "record"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return tmp_path / "record"


def section(**batch: Any) -> LLMSection:
    waves = BatchSection(**{"command": FAKE, "idle_seconds": 0.05, **batch})
    return LLMSection(backend="openai-batch", model="some/model", batch=waves)


def run(folder: Path, work: Any, **batch: Any) -> Any:
    async def opened() -> Any:
        sections = {"judge": section(**batch)}
        async with open_llms(sections, None, folder / "j.sqlite", "run", backoff=AT_ONCE) as llms:
            return await work(llms)

    return asyncio.run(opened())


def ask(folder: Path, *texts: str, **batch: Any) -> list[Any]:
    found: list[Any] = run(folder, asking([question(text) for text in texts]), **batch)
    return found


def test_a_file_goes_to_the_program_and_its_answers_come_back(tmp_path: Path, record: Path) -> None:
    found = ask(tmp_path, "one", "two")
    assert [reply.text for reply in found] == ["yes, one", "yes, two"]
    assert [reply.usage.dollars for reply in found] == [0, 0]
    assert all(reply.journaled for reply in ask(tmp_path, "one", "two"))
    (arguments,) = map(json.loads, record.read_text().splitlines())
    assert arguments[::2] == ["-i", "-o", "--model"]
    assert arguments[5] == "some/model"
    assert [path.name for path in tmp_path.glob("batches/*/*")] == ["program.log"]


def test_programs_run_one_after_another(tmp_path: Path, record: Path) -> None:
    assert len(ask(tmp_path, *"abcdef", requests=2)) == 6
    assert len(record.read_text().splitlines()) == 3


def test_what_it_leaves_out_is_asked_again_and_what_it_refuses_is_not(
    tmp_path: Path, record: Path
) -> None:
    good, skipped, refused = ask(tmp_path, "good", "skip", "refuse")
    assert good.text == "yes, good"
    assert isinstance(skipped, LLMFailure)
    assert "the program left this out" in skipped.reason
    assert isinstance(refused, LLMFailure)
    assert "the prompt is too long" in refused.reason
    assert len(record.read_text().splitlines()) == AT_ONCE.attempts


def test_a_program_that_dies_ends_the_run_in_one_line(tmp_path: Path) -> None:
    (error,) = ask(tmp_path, "die")
    assert isinstance(error, AutointerpError)
    assert "llms.judge.batch.command died (exit status 1)" in str(error)
    assert "ValueError: No memory for the cache (log: " in str(error)


def test_it_is_stopped_with_the_run(tmp_path: Path, record: Path) -> None:
    async def stop(llms: LLMs) -> None:
        asked = asyncio.create_task(asking([question("sleep")])(llms))
        while not record.exists():
            await asyncio.sleep(0.01)
        asked.cancel()

    began = time.monotonic()
    run(tmp_path, stop)
    assert time.monotonic() - began < 30
    assert [reply.text for reply in ask(tmp_path, "good")] == ["yes, good"]


def test_a_missing_program_is_told_before_anything_is_done() -> None:
    with pytest.raises(
        AutointerpError, match=r"llms\.judge: no program 'nowhere'.* as batch\.command"
    ):
        check_llms({"judge": section(command=["nowhere"])}, BudgetSection())


def test_echoes_are_not_for_a_program(tmp_path: Path) -> None:
    echo = Request((Message("user", "a text"),), echo=True)
    (error,) = run(tmp_path, asking([echo]))
    assert isinstance(error, AutointerpError)
    assert "no plain completions" in str(error)


def test_the_files_and_the_model_stand_where_the_command_says() -> None:
    files = Path("in.jsonl"), Path("out.jsonl")
    given = ["run", "{input}", "--to={output}", "{model}"]
    assert command_line(given, *files, "m") == ["run", "in.jsonl", "--to=out.jsonl", "m"]
    vllm = command_line(["vllm", "run-batch", "--max-model-len", "9"], *files, "m")
    assert vllm[4:10] == ["-i", "in.jsonl", "-o", "out.jsonl", "--model", "m"]
    assert "--structured-outputs-config" in vllm
