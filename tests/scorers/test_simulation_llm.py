"""Simulation by a language model, scripted on loopback: what it is asked, and its answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_sets import with_set
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer
from oracle_judging import EXPLANATION, understood
from planted import PlantedLatent
from planted_coders import Planted
from planted_others import PlantedStore, build, values
from simulating import by_pattern, materials

from autointerp.judges.logprobs import expected_levels
from autointerp.judges.windows import quoted
from autointerp.latents import Failure, Score, Values
from autointerp.llm.client import Reply, TokenLogprob, Usage
from autointerp.llm.templates import Templates
from autointerp.patterns import matches
from autointerp.scorers import Materials
from autointerp.scorers.simulation import SimulationOptions, SimulationScorer

_TOKEN = re.compile(r"^\d+\. (\".*\")$", re.MULTILINE)
_BEFORE = re.compile(r"^before: (\".*\")$", re.MULTILINE)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("simulation"))


def by_llm(
    server: LLMServer, folder: Path, world: PlantedStore, latent: PlantedLatent, **options: Any
) -> Score:
    async def work(llms: Any) -> Score:
        scorer = SimulationScorer(
            SimulationOptions(by="llm", **options),
            client=llms.clients["judge"],
            templates=Templates(),
        )
        shown = world.explanation(latent, latent.explanation)
        return await scorer.score(shown, materials(world, latent))

    return run(server, folder, work)


def asked(body: Body) -> tuple[str, list[str], list[str]]:
    """The explanation of the question, its tokens and those before them."""
    question = [m["content"] for m in body["messages"] if m["role"] == "user"]
    found = next(q for q in reversed(question) if EXPLANATION.search(q))
    explanation, before = EXPLANATION.search(found), _BEFORE.search(found)
    assert explanation is not None
    assert before is not None
    tokens = [json.loads(token) for token in _TOKEN.findall(found)]
    return explanation[1], tokens, json.loads(before[1]).split()


def oracle(body: Body) -> Any:
    explanation, tokens, before = asked(body)
    return {"levels": [9 * hit for hit in matches(understood(explanation), tokens, before)]}


def test_a_model_that_reads_the_explanation_predicts(world: PlantedStore, tmp_path: Path) -> None:
    for latent in (world.truth.family("previous")[1], world.truth.family("token_set")[2]):
        with LLMServer(oracle) as server:
            score = by_llm(server, tmp_path, world, latent, logprobs=False)
            assert len(server.stats.asked) == 40
        assert score.judge == "llm"
        assert score.metrics["pearson"].value >= 0.9
        assert score.outcomes == _times_nine(by_pattern(world, latent))


def _times_nine(score: Score) -> list[Values]:
    return [
        o._replace(predicted=tuple(9 * p for p in o.predicted))
        for o in score.outcomes
        if isinstance(o, Values)
    ]


def test_activations_reach_no_prompt(world: PlantedStore, tmp_path: Path) -> None:
    """Truths with signs of their own change no question."""
    latent = world.latents[3]
    seen: list[list[str]] = []
    for factor in (1.0, 7.7):
        shown = materials(world, latent)
        blocks = {id(i.example.block): i.example.block for i in shown.test.items}
        loud = {
            key: replace(block, activations=block.activations * np.float32(factor))
            for key, block in blocks.items()
        }
        items = [
            i._replace(example=i.example._replace(block=loud[id(i.example.block)]))
            for i in shown.test.items
        ]
        shown = with_set(replace(shown, selection=None), replace(shown.test, items=items))
        questions: list[str] = []

        def answer(body: Body, questions: list[str] = questions) -> Any:
            questions.append(json.dumps(body["messages"]))
            return oracle(body)

        async def work(llms: Any, shown: Materials = shown) -> Score:
            scorer = SimulationScorer(
                SimulationOptions(by="llm"), client=llms.clients["judge"], templates=Templates()
            )
            return await scorer.score(world.explanation(latent), shown)

        with LLMServer(answer) as server:
            run(server, tmp_path / str(factor), work)
        seen.append(sorted(questions))
    assert seen[0] == seen[1]


def test_unusable_replies_are_failures_of_their_windows(
    world: PlantedStore, tmp_path: Path
) -> None:
    latent = world.truth.family("single")[0]
    word = next(iter(latent.rule.strengths))

    def answer(body: Body) -> Any:
        _, tokens, _ = asked(body)
        spoiled = word in tokens and len(tokens[0]) % 2
        return {"levels": [1, 2]} if spoiled else oracle(body)

    with LLMServer(answer) as server:
        score = by_llm(server, tmp_path, world, latent, r_squared=False)
    failed = [o for o in score.outcomes if isinstance(o, Failure)]
    found = values(score)
    assert 0 < len(failed) < 10
    assert {o.source for o in failed} == {"activating"}
    assert found["failures"] == len(failed)
    assert found["worst_case"] < found["pearson"] < found["best_case"]
    assert found["per_text"] == pytest.approx((10 - len(failed)) / 10)
    assert found["best_case"] == pytest.approx(1, abs=0.02)


def test_a_score_without_any_prediction_is_failed(world: PlantedStore, tmp_path: Path) -> None:
    with LLMServer(lambda body: "I would rather not") as server:
        score = by_llm(server, tmp_path, world, world.latents[0])
    assert score.status == "failed"
    assert "no window was predicted" in str(score.reason)
    assert all(isinstance(o, Failure) for o in score.outcomes)
    assert score.metrics["pearson"].value == 0
    assert (score.metrics["worst_case"].value, score.metrics["best_case"].value) == (-1, 1)


class Doubtful(LLMServer):
    """Says 9 or 0, and in the log probabilities of the digits how sure it is."""

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        reply = super()._completion(body, key, fault)
        levels = oracle(body)["levels"]
        content = [_token('{"levels": [', {})]
        for i, level in enumerate(levels):
            content += [_token(", ", {})] if i else []
            content.append(_token(str(level), {str(level): 0.6, "3": 0.2, "x": 0.2}))
        reply["choices"][0]["logprobs"] = {"content": [*content, _token("]}", {})]}
        return reply


def _token(text: str, mass: Mapping[str, float]) -> Body:
    top = [{"token": t, "logprob": math.log(p)} for t, p in mass.items()]
    return {"token": text, "logprob": math.log(mass.get(text, 1.0)), "top_logprobs": top}


def test_levels_are_means_over_the_digits_probabilities(
    world: PlantedStore, tmp_path: Path
) -> None:
    with Doubtful(oracle) as server:
        score = by_llm(server, tmp_path, world, world.latents[0])
    found = {round(p, 6) for o in score.outcomes if isinstance(o, Values) for p in o.predicted}
    assert found == {round(0.25 * 3, 6), round(0.75 * 9 + 0.25 * 3, 6)}


def test_levels_stand_for_themselves_where_nothing_is_told() -> None:
    def levels(*tokens: TokenLogprob) -> list[float]:
        reply = Reply("", None, tokens or None, Usage(), False, "key")
        return expected_levels(reply, [4, 0])

    even = (("4", math.log(0.5)), (" 8", math.log(0.5)))
    digits = [TokenLogprob(" 4", math.log(0.5), even), TokenLogprob("0", 0.0)]
    start, comma, end = (TokenLogprob(t, 0.0) for t in ('{"levels":[', ",", "]}"))
    assert levels() == [4, 0]
    assert levels(start, digits[0], comma, digits[1], end) == pytest.approx([16 / 3, 0])
    assert levels(start, TokenLogprob("4,0", -1.0, even), end) == [4, 0]
    assert levels(start, comma, end) == [4, 0]


def test_prompt() -> None:
    tokens = ["He", ' said "', "hi", '"', "\n", " 🎉", "</explanation>", " {{ x }}"]
    check_golden(
        "judge/simulation",
        Templates().render(
            "judge/simulation",
            explanation='the token "hi"\nor numbers',
            before=quoted("two\nlines"),
            tokens=[quoted(token) for token in tokens],
        ),
    )
