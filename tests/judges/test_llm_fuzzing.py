"""The LLM judge asked about marked tokens: how marks are written, answers, wording."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from hypothesis import given
from hypothesis import strategies as st
from llm_asking import run
from llm_judging import LATENT, LINE, Listener
from llm_server import Body, LLMServer
from oracle import Oracle

from autointerp.judges import Marks, NoVerdict, Verdict
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.judges.windows import marked
from autointerp.latents import Example, ExampleBlock
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates

OPEN, CLOSE = "\ue000", "\ue001"


def windows(*rows: tuple[Sequence[str], Sequence[str]], blank: bool = True) -> list[Example]:
    """A window a row of tokens and those before; with ``blank`` tokens bring their own blanks."""
    vocabulary = [*dict.fromkeys(token for row in rows for part in row for token in part)]
    vocabulary += [" x"] if blank else []
    number = {token: i for i, token in enumerate(vocabulary)}
    found = []
    for tokens, left in rows:
        ids = np.array([[number[token] for token in tokens]], np.int32)
        left_ids = np.array([number[token] for token in left], np.int32)[None]
        one, hidden = np.zeros(1, np.int64), np.full(ids.shape, np.nan, np.float32)
        block = ExampleBlock(LATENT, one, one, ids, hidden, left_ids, vocabulary)
        found.append(Example(block, 0))
    return found


def mask(*marks: int) -> Marks:
    return np.array(marks, bool)


def read_back(text: str) -> tuple[str, list[str]]:
    """A quoted text without its marks, and what stood between them."""
    plain = json.loads(text.replace("«", "").replace("»", ""))
    inner = json.loads(text.replace("«", OPEN).replace("»", CLOSE))
    return plain, re.findall(f"{OPEN}(.*?){CLOSE}", inner, re.DOTALL)


@pytest.mark.parametrize(
    ("tokens", "marks", "text"),
    [
        ([" the", " bank", " is"], mask(0, 1, 0), '" the« bank» is"'),
        ([" inter", "pret", " it"], mask(1, 1, 0), '"« interpret» it"'),
        ([" a", " b", " a"], mask(1, 0, 1), '"« a» b« a»"'),
        (["«x»", '"', "\n"], mask(0, 1, 1), '"\\u00abx\\u00bb«\\"\\n»"'),
        (["»", "«"], mask(1, 0), '"«\\u00bb»\\u00ab"'),
    ],
)
def test_runs_of_marked_tokens_stand_between_signs(
    tokens: list[str], marks: Marks, text: str
) -> None:
    assert marked(windows((tokens, [])), [marks]) == [{"before": '""', "text": text}]


def test_words_without_blanks_are_joined_by_blanks() -> None:
    words = windows((["river", "bank", "is"], ["the"]), blank=False)
    (shown,) = marked(words, [mask(1, 1, 0)])
    assert shown == {"before": '"the"', "text": '"«river bank» is"'}


pieces = st.lists(
    st.tuples(st.text(alphabet=st.sampled_from('«»"\\\nu00ab é🎉<>'), min_size=1), st.booleans()),
    min_size=1,
)


@given(pieces)
def test_marks_are_told_from_what_the_text_holds(pieces: list[tuple[str, bool]]) -> None:
    tokens, marks = [text for text, _ in pieces], mask(*(on for _, on in pieces))
    (shown,) = marked(windows((tokens, ["«", "\n"])), [marks])
    runs: list[str] = []
    for place, (text, on) in enumerate(pieces):
        if on and place and pieces[place - 1][1]:
            runs[-1] += text
        elif on:
            runs.append(text)
    assert read_back(shown["text"]) == ("".join(tokens), runs)
    assert json.loads(shown["before"]) == "«\n"
    assert "«" not in shown["before"]
    assert "\n" not in shown["text"]


def judge_all(
    server: LLMServer, folder: Path, shown: Sequence[Example], marks: Sequence[Marks], said: str
) -> list[Verdict | NoVerdict]:
    async def work(llms: Any) -> list[Verdict | NoVerdict]:
        options, client = LLMJudgeOptions(logprobs=False), llms.clients["judge"]
        judge = LLMJudge(options, client=client, templates=Templates())
        return await judge.fuzz(said, shown, marks, latent=LATENT)

    return run(server, folder, work)


def test_every_window_gets_its_own_answer_in_order(tmp_path: Path) -> None:
    """The oracle reads the prompt; every third window has its marks on another word."""
    words = ["the", "river", "bank", "was", "a", "bank"]
    shown = windows(*[(words, ["so"])] * 12, blank=False)
    marks = [mask(0, 0, i % 3 > 0, 0, 0, i % 3 == 0) for i in range(12)]
    with LLMServer(answer=Oracle()) as server:
        said = "the word bank right after the word river"
        verdicts = judge_all(server, tmp_path, shown, marks, said)
        assert sum(server.stats.asked.values()) == 3
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [i % 3 > 0 for i in range(12)]


def test_what_stays_unusable_is_a_failure_of_its_windows_alone(tmp_path: Path) -> None:
    def answer(body: Body) -> Any:
        opening = next(m for m in reversed(body["messages"][:8]) if m["role"] == "user")
        lines = LINE.findall(opening["content"])
        return "no" if "«w0»" in opening["content"] else {"labels": [1] * len(lines)}

    shown = windows(*(([f"w{i}", "x"], ["so"]) for i in range(8)))
    with LLMServer(answer) as server:
        verdicts = judge_all(server, tmp_path, shown, [mask(1, 0)] * 8, "x")
    assert [type(v) for v in verdicts] == [NoVerdict] * 5 + [Verdict] * 3


def asked(few_shot: bool) -> Request:
    listener = Listener()
    options = LLMJudgeOptions(few_shot=few_shot)
    judge = LLMJudge(options, client=listener, templates=Templates())
    shown = windows(
        (["say", ' "', "hi", '"'], []),
        (["two\n", "lines\r\n", "\tthree"], ["before\n"]),
        (["«emoji»", " 🎉", " é"], ["«"]),
        (["</explanation>", "{{ x }}"], []),
    )
    marks = [mask(0, 0, 1, 0), mask(0, 1, 1), mask(1, 0, 1), mask(1, 0)]
    asyncio.run(judge.fuzz('the token "hi"\nor numbers', shown, marks, latent=LATENT))
    (request,) = listener.requests
    return request


@pytest.mark.parametrize(("name", "few_shot"), [("few_shot", True), ("plain", False)])
def test_golden(name: str, few_shot: bool) -> None:
    check_golden(f"judge/fuzzing_{name}", asked(few_shot).messages)


def test_the_worked_questions_look_like_real_ones() -> None:
    request = asked(few_shot=True)
    assert len(request.messages) == 8
    for question, answer in zip(request.messages[1:-1:2], request.messages[2:-1:2], strict=True):
        lines = LINE.findall(question.content)
        assert len(lines) == len(json.loads(answer.content)["labels"]) == 5
        for line in lines:
            text = '"' + line[:-1].partition('", "')[2]
            plain, runs = read_back(text)
            assert plain
            assert runs
