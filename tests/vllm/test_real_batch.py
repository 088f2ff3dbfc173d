"""Waves that a real ``vllm run-batch`` answers on the CPU."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from llm_asking import question
from vllm_model import LABELS, PYTHON, skip_without_vllm, write_model

from autointerp.llm.client import Reply
from autointerp.llm.opening import open_llms
from autointerp.sections import BatchSection, LLMSection

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
PROGRAM = [str(PYTHON), "-m", "vllm.entrypoints.openai.run_batch"]
SMALL = ["--enforce-eager", "--dtype", "float32", "--max-model-len", "2048"]


def test_a_wave_is_answered_with_structure_and_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_vllm()
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    write_model(tmp_path / "model")
    waves = BatchSection(command=[*PROGRAM, *SMALL], idle_seconds=0.2)
    section = LLMSection(backend="openai-batch", model=str(tmp_path / "model"), batch=waves)

    async def ask() -> list[Any]:
        async with open_llms({"judge": section}, journal=tmp_path / "journal.sqlite") as llms:
            judge = llms.clients["judge"]
            asked = {"max_tokens": 120, "top_logprobs": 2, "schema": LABELS}
            return await asyncio.gather(
                *(judge.complete(question(f"text {i}", **asked)) for i in range(6))
            )

    replies = asyncio.run(ask())
    assert all(isinstance(reply, Reply) and len(reply.data["labels"]) == 4 for reply in replies)
    assert all(reply.logprobs and reply.usage.prompt_tokens > 0 for reply in replies)
