"""The LLM judge against a real server on loopback: labels and faults."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_asking import run
from llm_judging import LATENT, WEIRD, asked_texts, detection, examples, judge_all, truthful
from llm_server import Body, LLMServer

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.llm import LLMJudge
from autointerp.judges.windows import quoted, shown
from autointerp.latents import ExampleBlock, Label
from autointerp.llm.accounts import metered
from autointerp.llm.client import BudgetExhausted
from autointerp.llm.templates import Templates
from autointerp.registry import judges
from autointerp.sections import BudgetSection


@pytest.mark.parametrize("size", [1, 5, 7])
def test_every_window_gets_its_own_answer_in_order(tmp_path: Path, size: int) -> None:
    windows = examples([f"t{i}" for i in range(12)])
    with LLMServer(truthful) as server:
        verdicts = judge_all(server, tmp_path, windows, texts_per_prompt=size, logprobs=False)
        assert sum(server.stats.asked.values()) == math.ceil(12 / size)
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [True, False] * 6
    assert all(isinstance(v, Verdict) and v.probability is None and v.request for v in verdicts)
    assert len({v.request for v in verdicts if isinstance(v, Verdict)}) == math.ceil(12 / size)


def test_quotes_newlines_and_emoji_reach_the_model_unchanged(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(body: Body) -> Any:
        seen.extend(asked_texts(body))
        return truthful(body)

    with LLMServer(answer) as server:
        verdicts = judge_all(server, tmp_path, examples(WEIRD), texts_per_prompt=3)
    assert sorted(seen) == sorted(f"{text} #{i}" for i, text in enumerate(WEIRD))
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [True, False] * 3


@given(st.text())
def test_a_quoted_text_is_one_line_that_reads_back(text: str) -> None:
    assert json.loads(quoted(text)) == text
    assert "\n" not in quoted(text)
    assert "\r" not in quoted(text)


def test_windows_of_words_without_blanks_are_joined_by_blanks() -> None:
    ids, left = np.array([[0, 1]], np.int32), np.array([[-1, 2]], np.int32)
    one = np.array([0])
    block = ExampleBlock(LATENT, one, one, ids, ids * np.nan, left, ["river", "bank", "the"])
    assert shown(block.examples()) == [{"before": '"the"', "text": '"river bank"'}]


def test_servers_without_structured_outputs_do_too(tmp_path: Path) -> None:
    windows = examples([f"t{i}" for i in range(7)])
    with LLMServer(truthful, structured=False) as server:
        verdicts = judge_all(server, tmp_path, windows)
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [i % 2 == 0 for i in range(7)]


def test_no_windows_cost_no_request(tmp_path: Path) -> None:
    with LLMServer(truthful) as server:
        assert judge_all(server, tmp_path, []) == []
        assert not server.stats.asked


def test_the_registered_judge_says_what_it_needs() -> None:
    options = judges.get("llm").options()
    assert options.needs() == {"client", "templates"}
    assert options.llm == "judge"


# Faults


def test_a_reply_of_the_wrong_length_is_repaired_with_the_error_shown(tmp_path: Path) -> None:
    complaints = []

    def answer(body: Body) -> Any:
        if len(body["messages"]) == 2:
            return {"labels": [1, 1]}
        complaints.append(body["messages"][-1]["content"])
        return {"labels": [0, 1, 0]}

    with LLMServer(answer) as server:
        verdicts = judge_all(server, tmp_path, examples(["a", "b", "c"]), few_shot=False)
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [False, True, False]
    assert "[1, 1] is too short" in complaints[0]


@pytest.mark.parametrize(
    "said",
    [{"labels": [1]}, {"labels": [1, 2, 0]}, {"labels": ["1", "0", "0"]}, '{"labels": [1, 0', "1"],
)
def test_what_stays_unusable_is_a_failure_of_its_windows_alone(tmp_path: Path, said: Any) -> None:
    def answer(body: Body) -> Any:
        opening = next(m for m in body["messages"] if m["role"] == "user")
        return said if '"t1 #1"' in opening["content"] else truthful(body)

    windows = examples([f"t{i}" for i in range(6)])
    with LLMServer(answer) as server:
        verdicts = judge_all(server, tmp_path, windows, texts_per_prompt=3, few_shot=False)
    assert [type(v) for v in verdicts] == [NoVerdict] * 3 + [Verdict] * 3
    assert all("no usable reply" in v.reason for v in verdicts if isinstance(v, NoVerdict))


def test_failures_are_counted_as_wrong_answers_and_outcomes_are_kept(tmp_path: Path) -> None:
    faults = {"garbage": 0.25, "wrong_length": 0.15, "prose": 0.1, "500": 0.2, "truncated": 0.1}
    sources = ["activating"] * 20 + ["random"] * 20
    with LLMServer(truthful, faults=faults, seed=3) as server:
        score = detection(server, tmp_path, sources, texts_per_prompt=2, logprobs=False)
    failed = [o for o in score.outcomes if not isinstance(o, Label)]
    assert len(score.outcomes) == 40
    assert 0 < len(failed) < 40
    assert score.metrics["failures"].value == len(failed)
    assert score.metrics["worst_case"].value < score.metrics["best_case"].value


def test_a_spent_budget_stops_rather_than_fails(tmp_path: Path) -> None:
    windows = examples([f"t{i}" for i in range(20)])
    with LLMServer(truthful) as server, pytest.raises(BudgetExhausted):
        judge_all(server, tmp_path, windows, budget=BudgetSection(prompt_tokens=3000))


def test_the_same_question_is_answered_from_the_journal(tmp_path: Path) -> None:
    windows = examples([f"t{i}" for i in range(10)])
    with LLMServer() as server:
        first = judge_all(server, tmp_path, windows)
        asked = sum(server.stats.asked.values())
        assert judge_all(server, tmp_path, windows) == first
        assert sum(server.stats.asked.values()) == asked


def test_what_is_asked_of_one_latent_is_metered(tmp_path: Path) -> None:
    async def work(llms: Any) -> Any:
        judge = LLMJudge(client=llms.clients["judge"], templates=Templates())
        with metered() as account:
            await judge.detect("x", examples(["a"]), latent=LATENT)
        await judge.detect("x", examples(["b"]), latent=LATENT)
        return account

    with LLMServer(truthful) as server:
        assert run(server, tmp_path, work).spent.requests == 1
