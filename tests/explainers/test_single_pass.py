"""The single-pass explainer against a real server on loopback: prompts, replies, faults."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer

from autointerp.explainers.excerpts import choose
from autointerp.explainers.single_pass import SinglePassExplainer, SinglePassOptions
from autointerp.judges import NoVerdict, Verdict
from autointerp.latents import (
    Background,
    Evidence,
    Example,
    ExampleBlock,
    Explanation,
    LabelledSet,
    LatentId,
    Statistics,
)
from autointerp.latents.scales import distinct
from autointerp.llm.client import BudgetExhausted, Message
from autointerp.llm.templates import Templates
from autointerp.registry import explainers
from autointerp.sections import BudgetSection

LATENT = LatentId("layers.1", 7)
WORDS = [
    " cat",
    " dog",
    " sat",
    " on",
    " the",
    "\n",
    ' "hi"',
    " 🎉",
    ",",
    " x",
    "(",
    ")",
    " error",
    " = 1",
]
CAT, WINDOW, LEFT = 0, 12, 4
SELECTION = LabelledSet(LATENT, "select", [], {}, None, 0)
LINE = re.compile(r'^(\d+)\. (\[".*"\])$', re.MULTILINE)
ANSWER = {"description": 'The word "cat".', "label": "cats"}


def block(n: int, seed: int, active: bool, vocabulary: Sequence[str]) -> ExampleBlock:
    """Windows of random words; in active ones a cat sits in the middle, the stronger the later."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, len(vocabulary), (n, LEFT + WINDOW)).astype(np.int32)
    activations = np.zeros((n, WINDOW), np.float32)
    if active:
        ids[:, LEFT + 6] = CAT
        activations[:, 6] = np.linspace(0.1, 10, n)
        activations[:, 7] = activations[:, 6] / 2
        activations[:, 2] = activations[:, 6] / 5  # too weak to be marked
    numbers = np.arange(n) + 1000 * seed
    return ExampleBlock(
        LATENT, numbers, numbers * 0, ids[:, LEFT:], activations, ids[:, :LEFT], vocabulary
    )


def evidence(
    active: int = 60, vocabulary: Sequence[str] = WORDS, lens: Sequence[str] = (" purr", '"\n')
) -> Evidence:
    sampled = block(active, 1, True, vocabulary).examples()
    silent = block(50, 2, False, vocabulary)
    background = Background(
        silent.documents, silent.starts, silent.token_ids, silent.left_ids, vocabulary
    )
    statistics = Statistics(active, 0.01, 10.0, 1.0, np.ones(11, np.float32), [])
    matched = block(4, 3, False, vocabulary).examples()
    top = sampled[::-1][:40]
    return Evidence(
        LATENT, statistics, top, sampled, matched, background, np.zeros(50, np.float32), list(lens)
    )


def explain(
    server: LLMServer,
    folder: Path,
    shown: Evidence | None = None,
    budget: BudgetSection | None = None,
    judge: Any = None,
    **options: Any,
) -> Explanation:
    async def work(llms: Any) -> Explanation:
        explainer = SinglePassExplainer(
            SinglePassOptions(**options),
            client=llms.clients["judge"], templates=Templates(), judge=judge,
        )  # fmt: skip
        return await explainer.explain(shown or evidence(), SELECTION)

    return run(server, folder, work, budget)


def one(body: Body) -> Any:
    return {"explanations": [ANSWER]}


class Listening(LLMServer):
    """Answers with one explanation, and keeps the turns of every request."""

    def __init__(self, answer: Any = one) -> None:
        self.turns: list[list[Message]] = []

        def kept(body: Body) -> Any:
            self.turns.append([Message(m["role"], m["content"]) for m in body["messages"]])
            return answer(body)

        super().__init__(kept)


def excerpts(message: Message) -> list[list[str]]:
    return [json.loads(line) for _, line in LINE.findall(message.content)]


# Replies


def test_the_reply_becomes_the_explanation_with_its_cost(tmp_path: Path) -> None:
    with LLMServer(one) as server:
        found = explain(server, tmp_path)
    assert (found.status, found.text, found.components) == (
        "explained", ANSWER["description"], (ANSWER["description"],),
    )  # fmt: skip
    assert found.details["label"] == "cats"
    assert found.cost.requests == 1
    assert found.cost.prompt_tokens > 500
    assert found.cost.completion_tokens > 0


def test_several_modes_become_components(tmp_path: Path) -> None:
    answers = [{"description": f"Sense {n}.", "label": f"s{n}"} for n in range(3)]
    with LLMServer(lambda body: {"explanations": answers}) as server:
        found = explain(server, tmp_path, modes=3)
        assert explain(server, tmp_path, modes=2).status == "failed"
    assert found.components == ("Sense 0.", "Sense 1.", "Sense 2.")
    assert found.text == "Sense 0.; or Sense 1.; or Sense 2."
    assert found.details["label"] == "s0; or s1; or s2"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"explanations": []}, "is too short|should be non-empty"),
        ({"explanations": [{**ANSWER, "label": "word " * 21}]}, "1 to 20 words, not 21"),
        ({"explanations": [{**ANSWER, "description": " "}]}, "1 to 60 words, not 0"),
        ({"explanations": [{"label": "cats"}]}, "'description' is a required property"),
        ('{"explanations": [{"description": "The word', "no JSON|required|explanations"),
        ("The latent fires on errors, I am sorry.", "no JSON value"),
    ],
)
def test_unusable_replies_are_repaired_once_else_counted_as_failed(
    tmp_path: Path, said: Any, complaint: str
) -> None:
    shown: list[str] = []

    def answer(body: Body, mended: bool) -> Any:
        if len(body["messages"]) == 2:
            return said
        shown.append(body["messages"][-1]["content"])
        return one(body) if mended else said

    with LLMServer(lambda body: answer(body, True)) as server:
        mended = explain(server, tmp_path / "a")
    assert mended.status == "explained"
    assert mended.cost.requests == 2
    assert re.search(complaint, shown[0])
    with LLMServer(lambda body: answer(body, False)) as server:
        failed = explain(server, tmp_path / "b")
    assert (failed.status, failed.text) == ("failed", "")
    assert "no usable reply" in (failed.reason or "")
    assert failed.cost.requests == 2


def test_an_explanation_about_errors_is_an_explanation(tmp_path: Path) -> None:
    words = 'The word "error" 🎉,\nor "Traceback\\n".'
    with LLMServer(lambda b: {"explanations": [{"description": words, "label": "e"}]}) as server:
        assert explain(server, tmp_path).text == words


def test_a_spent_budget_stops_rather_than_fails(tmp_path: Path) -> None:
    with LLMServer(one) as server, pytest.raises(BudgetExhausted):
        explain(server, tmp_path, budget=BudgetSection(prompt_tokens=100))


def test_dead_latents_and_those_with_few_windows_cost_no_request(tmp_path: Path) -> None:
    with LLMServer(one) as server:
        dead = explain(server, tmp_path, evidence(0))
        few = explain(server, tmp_path, evidence(9))
        assert not server.stats.asked
    assert (dead.status, few.status) == ("dead", "too_few_examples")
    assert few.reason == "9 distinct active windows; 10 are needed"


def test_transport_faults_leave_no_trace_and_the_journal_answers_again(tmp_path: Path) -> None:
    faults = {"429": 0.3, "500": 0.2, "truncated": 0.1, "empty": 0.1}
    with LLMServer(one) as server:
        calm = explain(server, tmp_path / "a")
    with LLMServer(one, faults=faults, seed=1) as server:
        stormy = explain(server, tmp_path / "b")
        asked = sum(server.stats.asked.values())
        again = explain(server, tmp_path / "b")
        assert sum(server.stats.asked.values()) == asked
    assert (stormy.text, stormy.details["label"]) == (calm.text, calm.details["label"])
    assert again == stormy


# What is shown


def shown_maxima(sampling: Any, seed: int = 0) -> list[float]:
    return [e.maximum for e in choose(evidence(), sampling, 20, 0, 0, seed).shown]


def test_the_ways_to_draw_exemplars() -> None:
    everything = [e.maximum for e in evidence().sampled]
    assert shown_maxima("top") == everything[::-1][:20]
    quantile, random = shown_maxima("quantile"), shown_maxima("random")
    assert quantile == sorted(quantile, reverse=True)
    tenths = Counter(everything.index(maximum) // 6 for maximum in quantile)
    assert tenths == dict.fromkeys(range(10), 2)
    assert random != quantile
    assert shown_maxima("random") == random
    assert shown_maxima("random", seed=1) != random


def test_what_is_kept_back_was_not_shown_and_repeats_are_dropped() -> None:
    seen = evidence()
    twice = replace(seen, sampled=[*seen.sampled, *seen.sampled])
    assert distinct(twice.sampled) == seen.sampled
    assert distinct([*seen.sampled[:2], seen.sampled[0]]) == seen.sampled[:2]
    chosen = choose(twice, "quantile", 30, 10, 10, 0)
    parts = [chosen.shown, chosen.contrasts, chosen.held_active, chosen.held_silent]
    assert [len(part) for part in parts] == [30, 10, 10, 10]
    keys = [(e.document, e.start) for part in parts for e in part]
    assert len(set(keys)) == len(keys)
    assert list(chosen.contrasts[:4]) == seen.token_matched
    assert all(e.maximum == 0 for e in [*chosen.contrasts, *chosen.held_silent])


def test_active_tokens_are_marked_and_the_rest_is_the_text(tmp_path: Path) -> None:
    with Listening() as server:
        explain(server, tmp_path, count=12)
    user = server.turns[0][-1]
    lines = excerpts(user)
    chosen = choose(evidence(), "quantile", 12, 0, 0, 0).shown
    assert len(lines) == 12
    for line, example in zip(lines, chosen, strict=True):
        tokens = example.tokens
        assert line[0] == "".join(example.left_context)
        marked = "".join([*tokens[:6], "<<", *tokens[6:8], ">>", *tokens[8:]])
        assert line[1] == marked
    levels = re.findall(r'activations: " cat" (\d+), (".*") (\d+)$', user.content, re.MULTILINE)
    assert len(levels) == 12
    assert int(levels[0][0]) == 10
    assert all(1 <= int(a) <= 10 and int(b) <= int(a) for a, _, b in levels)


def test_marks_never_stand_in_the_texts(tmp_path: Path) -> None:
    with Listening() as server:
        explain(server, tmp_path, evidence(vocabulary=[*WORDS, " <", "<"]), count=30)
    assert "between ⟦ and ⟧" in server.turns[0][-1].content
    assert all(line[1].count("⟦") == 1 for line in excerpts(server.turns[0][-1]))


VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "bare": {"activations": False},
    "contrastive": {"contrastive": True},
    "logit_lens": {"logit_lens": True},
    "modes": {"modes": 3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_golden(tmp_path: Path, name: str) -> None:
    with Listening() as server:
        explain(server, tmp_path, count=5, **VARIANTS[name])
    check_golden(f"explainer/single_pass_{name}", server.turns[0])


def test_latents_share_the_instructions(tmp_path: Path) -> None:
    with Listening() as server:
        explain(server, tmp_path)
        explain(server, tmp_path, evidence(30))
    first, second = server.turns
    assert first[0] == second[0]
    assert first[1] != second[1]


# Revision


class Judging:
    """Says yes to windows whose number is in ``yes``; has no answer for those in ``lost``."""

    name = "judging"

    def __init__(self, yes: set[int] = frozenset(), lost: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.yes, self.lost = yes, lost
        self.seen: list[Example] = []

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        self.seen = list(examples)
        return [
            NoVerdict("lost") if e.document in self.lost else Verdict(e.document in self.yes)
            for e in examples
        ]


def held_back(**options: Any) -> tuple[list[int], list[int]]:
    chosen = choose(evidence(), "quantile", 40, 0, 10, 0)
    return [e.document for e in chosen.held_active], [e.document for e in chosen.held_silent]


def revisable(body: Body) -> Any:
    words = "Second." if len(body["messages"]) == 4 else "First."
    return {"explanations": [{"description": words, "label": words}]}


def test_what_a_judge_gets_wrong_leads_to_a_revision(tmp_path: Path) -> None:
    active, silent = held_back()
    judge = Judging(yes={*active[2:], silent[3]}, lost={silent[9]})
    with Listening(revisable) as server:
        found = explain(server, tmp_path, judge=judge, revise=True)
    assert found.text == "Second."
    assert found.cost.requests == 2
    assert found.details["first"] == "First."
    counts = {"judged": 19, "missed": 2, "wrongly_found": 1, "unjudged": 1}
    assert found.details["held_back"] == counts
    first, second = server.turns
    assert second[:2] == first
    assert [m.role for m in second] == ["system", "user", "assistant", "user"]
    assert len(excerpts(second[-1])) == 3
    order = [e.document in active for e in judge.seen]
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)
    check_golden("explainer/revise", second)


def test_a_flawless_explanation_is_not_revised(tmp_path: Path) -> None:
    with Listening(revisable) as server:
        found = explain(server, tmp_path, judge=Judging(set(held_back()[0])), revise=True)
    assert found.text == "First."
    assert len(server.turns) == 1


def test_the_first_explanation_stays_where_no_revision_can_be_had(tmp_path: Path) -> None:
    def answer(body: Body) -> Any:
        return "no" if len(body["messages"]) > 2 else revisable(body)

    with LLMServer(answer) as server:
        found = explain(server, tmp_path, judge=Judging(), revise=True)
    assert (found.status, found.text) == ("explained", "First.")
    assert "no usable reply" in found.details["not_revised"]


def test_without_a_judge_the_same_model_judges(tmp_path: Path) -> None:
    def answer(body: Body) -> Any:
        schema: Mapping[str, Any] = body["response_format"]["json_schema"]["schema"]
        labels = schema["properties"].get("labels")
        return {"labels": [0] * labels["minItems"]} if labels else revisable(body)

    with LLMServer(answer) as server:
        found = explain(server, tmp_path, revise=True)
    assert found.text == "Second."
    assert found.cost.requests == 6


def test_the_registered_explainer_says_what_it_needs() -> None:
    options = explainers.get("single_pass").options
    assert options().needs() == {"client", "templates"}
    assert options(revise=True).needs() == {"client", "templates", "judge"}
    assert options().llm == "explainer"
