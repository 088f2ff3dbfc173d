"""The LLM judge against a real server on loopback: labels, probabilities, faults, wording."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from hypothesis import given
from hypothesis import strategies as st
from llm_asking import run
from llm_server import Body, LLMServer, _send

from autointerp.judges import NoVerdict, Verdict
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.judges.logprobs import yes_probabilities
from autointerp.judges.windows import quoted, shown
from autointerp.latents import (
    Example,
    ExampleBlock,
    Explanation,
    Item,
    Label,
    LabelledSet,
    LatentId,
    Score,
)
from autointerp.llm.accounts import metered
from autointerp.llm.client import BudgetExhausted, Reply, Request, TokenLogprob, Usage
from autointerp.llm.templates import Templates
from autointerp.registry import judges, scorers
from autointerp.scorers import Materials
from autointerp.sections import BudgetSection

LATENT = LatentId("layers.1", 7)
WEIRD = [
    'say "hi"',
    "two\nlines\r\n\tthree",
    "emoji 🎉 é",
    "error: \\n {{ x }}",
    "</explanation>",
    "",
]
LINE = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)


def examples(texts: Sequence[str], before: str = "left ") -> list[Example]:
    """A window of two tokens for each text, the text and its number, with one token before it."""
    n = len(texts)
    vocabulary = [*texts, *(f" #{i}" for i in range(n)), before]
    ids = np.array([[i, n + i] for i in range(n)], np.int32).reshape(n, 2)
    numbers, left = np.arange(n), np.full((n, 1), 2 * n, np.int32)
    hidden = np.full((n, 2), np.nan, np.float32)
    return ExampleBlock(LATENT, numbers, numbers, ids, hidden, left, vocabulary).examples()


def asked_texts(body: Body) -> list[str]:
    """The texts of a request's question, read back as the JSON that they are written in."""
    lines = LINE.findall(body["messages"][-1]["content"])
    return [json.loads(line)[1] for line in lines]


def truthful(body: Body) -> Any:
    """1 for texts with an even number."""
    return {"labels": [1 - int(text.rpartition("#")[2]) % 2 for text in asked_texts(body)]}


def judge_all(
    server: LLMServer,
    folder: Path,
    windows: Sequence[Example],
    explanation: str = "even numbers",
    budget: BudgetSection | None = None,
    **options: Any,
) -> list[Verdict | NoVerdict]:
    async def work(llms: Any) -> list[Verdict | NoVerdict]:
        client = llms.clients["judge"]
        judge = LLMJudge(LLMJudgeOptions(**options), client=client, templates=Templates())
        return await judge.detect(explanation, windows, latent=LATENT)

    return run(server, folder, work, budget)


class Probable(LLMServer):
    """Tells the probability of every label, token by token as a real server does."""

    def __init__(self, answer: Callable[[Body], Any], yes: Callable[[str], float]) -> None:
        super().__init__(answer)
        self.yes = yes

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        reply = super()._completion(body, key, fault)
        reply["choices"][0]["logprobs"] = {"content": self._tokens(body)}
        return reply

    def _tokens(self, body: Body) -> list[Body]:
        tokens = [_token('{"', []), _token("labels", []), _token('":', [])]
        for i, text in enumerate(asked_texts(body)):
            yes, label = self.yes(text), self.answer(body)["labels"][i]
            mass = {"0": 0.5 * (1 - yes), "1": 0.5 * yes, "\n": 0.5}
            tokens += [_token(", " if i else " [", []), _token(str(label), list(mass.items()))]
        return [*tokens, _token("]}", [])]


def _token(text: str, top: Sequence[tuple[str, float]]) -> Body:
    logprobs = {token: math.log(mass) for token, mass in top}
    return {
        "token": text,
        "logprob": logprobs.get(text.strip(" [,"), 0.0),
        "top_logprobs": [{"token": t, "logprob": p} for t, p in logprobs.items()],
    }


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


# Probabilities


def test_auroc_comes_from_logprobs(tmp_path: Path) -> None:
    """Labels are all 0, yet the probabilities rank all but one pair rightly."""
    yes = {f"t{i} #{i}": (0.9 - 0.02 * i if i < 10 else 0.1 + 0.01 * i) for i in range(20)}
    yes["t9 #9"], yes["t19 #19"] = 0.5, 0.55
    with Probable(lambda body: {"labels": [0] * len(asked_texts(body))}, yes.__getitem__) as server:
        score = detection(server, tmp_path, ["activating"] * 10 + ["random"] * 10)
    assert score.metrics["auroc"].value == pytest.approx(0.99)
    assert score.metrics["recall"].value == 0
    found = [outcome.probability for outcome in score.outcomes if isinstance(outcome, Label)]
    assert found == pytest.approx(list(yes.values()))


def detection(server: LLMServer, folder: Path, sources: Sequence[Any], **options: Any) -> Score:
    """The detection score of one window of each source."""
    windows = examples([f"t{i}" for i in range(len(sources))])
    items = [
        Item(window, source == "activating", source, 0 if source == "activating" else None)
        for window, source in zip(windows, sources, strict=True)
    ]

    async def work(llms: Any) -> Score:
        client = llms.clients["judge"]
        judge = LLMJudge(LLMJudgeOptions(**options), client=client, templates=Templates())
        kind = scorers.get("detection")
        materials = Materials(LATENT, LabelledSet(LATENT, "test", items, {}, None, 0))
        explanation = Explanation(LATENT, "even numbers", "by hand")
        scorer = kind.implementation(kind.options(), judge=judge)
        score: Score = await scorer.score(explanation, materials)
        return score

    return run(server, folder, work)


def reply(*tokens: TokenLogprob) -> Reply:
    return Reply("", None, tokens, Usage(), False, "")


def plain(text: str) -> TokenLogprob:
    return TokenLogprob(text, 0.0)


def digit(text: str, **top: float) -> TokenLogprob:
    masses = {{"one": "1", "zero": "0", "spaced": " 1", "blank": " "}[k]: m for k, m in top.items()}
    alternatives = tuple((token, math.log(mass)) for token, mass in masses.items())
    return TokenLogprob(text, dict(alternatives).get(text, -0.1), alternatives)


def test_probabilities_are_of_one_against_nought_however_they_are_written() -> None:
    tokens = [
        plain('Sure, "labels": [0]. {"'), plain('labels":['),
        digit("1", one=0.6, zero=0.1, spaced=0.1, blank=0.2), plain(","), digit("0", zero=0.5),
        plain("]}"),
    ]  # fmt: skip
    assert yes_probabilities(reply(*tokens), [1, 0]) == pytest.approx([7 / 8, 0.0])


@pytest.mark.parametrize(
    "tokens",
    [[], [plain('{"labels":[1,0]}')], [plain('{"labels":['), plain("1,0"), plain("]}")]],
)
def test_labels_without_tokens_of_their_own_have_no_probability(tokens: list[TokenLogprob]) -> None:
    assert yes_probabilities(reply(*tokens), [1, 0]) == [None, None]


@given(
    st.lists(st.tuples(st.booleans(), st.floats(1e-6, 1 - 1e-6)), min_size=1, max_size=9),
    st.sampled_from(["", " ", "\n  "]),
)
def test_every_label_has_the_probability_of_its_own_token(
    labels: list[tuple[bool, float]], blank: str
) -> None:
    tokens = [plain('{"labels"'), plain(":["), plain(blank)]
    for label, yes in labels:
        tokens += [digit(str(int(label)), one=yes, zero=1 - yes), plain("," + blank)]
    tokens[-1] = plain("]}")
    found = yes_probabilities(reply(*tokens), [int(label) for label, _ in labels])
    assert found == pytest.approx([yes for _, yes in labels])


def test_an_endpoint_without_logprobs_is_asked_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Unable(truthful) as server:
        verdicts = judge_all(server, tmp_path, examples([f"t{i}" for i in range(20)]))
    assert [v.label for v in verdicts if isinstance(v, Verdict)] == [True, False] * 10
    assert len(caplog.records) == 1


def test_a_model_that_speaks_of_logprobs_is_still_asked_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with LLMServer(lambda body: {"labels": ["logprobs"]}) as server:
        (verdict,) = judge_all(server, tmp_path, examples(["a"]))
        assert sum(server.stats.asked.values()) == 2  # the question and its repair
    assert isinstance(verdict, NoVerdict)
    assert "logprobs" in verdict.reason
    assert not caplog.records


class Unable(LLMServer):
    """Refuses requests for logprobs, as the endpoints of reasoning models do."""

    async def _reply(self, answer: Body, fault: str | None, writer: Any) -> bool:
        if "logprobs" in answer["choices"][0]:
            error = {"error": {"message": "logprobs are not supported with this model"}}
            return await _send(writer, 400, error)
        return await super()._reply(answer, fault, writer)


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


# Wording


@dataclass
class Listener:
    """Answers with noughts, and remembers what it was asked."""

    model: str = "listener"
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        self.requests.append(request)
        assert request.schema is not None
        count = request.schema["properties"]["labels"]["minItems"]
        return Reply("", {"labels": [0] * count}, None, Usage(), False, "")


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


def test_the_registered_judge_says_what_it_needs() -> None:
    options = judges.get("llm").options()
    assert options.needs() == {"client", "templates"}
    assert options.llm == "judge"
