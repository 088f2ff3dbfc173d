"""How the LLM judge is asked whether an explanation applies to texts."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from golden import check_golden
from llm_judging import LATENT, LINE, WEIRD, Listener, examples

from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates


def prompts(explanation: str, texts: Sequence[str], **options: Any) -> list[Request]:
    listener = Listener()
    judge = LLMJudge(LLMJudgeOptions(**options), client=listener, templates=Templates())
    asyncio.run(judge.detect(explanation, examples(texts), latent=LATENT))
    return listener.requests


@pytest.mark.parametrize(("name", "few_shot"), [("few_shot", True), ("plain", False)])
def test_golden(name: str, few_shot: bool) -> None:
    (request,) = prompts('the token "hi"\nor numbers', WEIRD[:5], few_shot=few_shot)
    check_golden(f"judge/detection_{name}", request.messages)


def test_prompts_of_all_latents_begin_alike_and_those_of_one_share_the_explanation() -> None:
    one, two = prompts("first", [f"t{i}" for i in range(10)])
    (other,) = prompts("second", ["t"])
    assert one.messages[:-1] == two.messages[:-1] == other.messages[:-1]
    assert len(one.messages) == 8
    head = one.messages[-1].content.partition("Texts:")[0]
    assert head == two.messages[-1].content.partition("Texts:")[0]


def test_the_worked_questions_look_like_real_ones() -> None:
    (request,) = prompts("x", ["a"])
    real = re.sub(r"\{.*\}", "{}", request.messages[-1].content).replace("\nx\n", "\n…\n")
    for question, answer in zip(request.messages[1:-1:2], request.messages[2:-1:2], strict=True):
        lines = LINE.findall(question.content)
        assert [len(json.loads(line)) for line in lines] == [2] * 5
        assert len(json.loads(answer.content)["labels"]) == 5
        assert question.content.startswith(real.partition("…")[0])
