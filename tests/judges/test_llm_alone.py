"""The LLM judge on windows that come without the tokens before them: prompts of their own."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from golden import check_golden

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.latents import Example, ExampleBlock, LatentId
from autointerp.llm.client import Reply, Request, Usage
from autointerp.llm.templates import Templates

LATENT = LatentId("layers.1", 7)
TOKENS = ["say", ' "', "hi", '"', "two\n", "«emoji»", " 🎉", "</explanation>", "{{ x }}"]
LINE = re.compile(r'^\d+\. (".*")$', re.MULTILINE)


@dataclass
class Listener:
    """Says yes to every text, and keeps the questions."""

    model: str = "listener"
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        texts = LINE.findall(request.messages[-1].content)
        return Reply("", {"labels": [1] * len(texts)}, None, Usage(), False, "")


def windows(left: int) -> list[Example]:
    ids = np.array([[0, 1, 2, 3], [4, 5, 6, 0], [7, 8, 4, 2]], np.int32)
    numbers, before = np.arange(3), np.full((3, left), 0, np.int32)
    hidden = np.full(ids.shape, np.nan, np.float32)
    return ExampleBlock(LATENT, numbers, numbers, ids, hidden, before, TOKENS).examples()


def asked(
    question: str, few_shot: bool, left: int = 0
) -> tuple[Request, list[Verdict | NoVerdict]]:
    listener = Listener()
    options = LLMJudgeOptions(few_shot=few_shot)
    judge = LLMJudge(options, client=listener, templates=Templates())
    text, shown = 'the token "hi"\nor numbers', windows(left)
    if question == "fuzzing":
        marks = [np.array(mask, bool) for mask in ([0, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1])]
        work = judge.fuzz(text, shown, marks, latent=LATENT)
    else:
        work = judge.detect(text, shown, latent=LATENT)
    verdicts = asyncio.run(work)
    (request,) = listener.requests
    return request, verdicts


@pytest.mark.parametrize("question", ["detection", "fuzzing"])
@pytest.mark.parametrize(("name", "few_shot"), [("few_shot", True), ("plain", False)])
def test_golden(question: str, name: str, few_shot: bool) -> None:
    request, verdicts = asked(question, few_shot)
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [True] * 3
    check_golden(f"judge/{question}_alone_{name}", request.messages)


@pytest.mark.parametrize("question", ["detection", "fuzzing"])
def test_worked_questions_are_written_like_real_ones(question: str) -> None:
    *turns, last = asked(question, few_shot=True)[0].messages[1:]
    assert len(LINE.findall(last.content)) == 3
    for shown, answer in zip(turns[::2], turns[1::2], strict=True):
        lines = LINE.findall(shown.content)
        assert len(lines) == len(json.loads(answer.content)["labels"]) == 5
        assert all(json.loads(line) for line in lines)


def test_windows_read_back_as_they_are() -> None:
    lines = LINE.findall(asked("detection", few_shot=False)[0].messages[-1].content)
    assert [json.loads(line) for line in lines] == ["".join(e.tokens) for e in windows(0)]


def test_windows_with_tokens_before_them_are_shown_with_these() -> None:
    """A judge that sees no line it knows answers for none, which is refused."""
    with pytest.raises(ValueError, match="labels"):
        asked("detection", few_shot=False, left=2)
