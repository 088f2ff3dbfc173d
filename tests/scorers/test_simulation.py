"""Simulation on the planted subject, by patterns and by a scripted model on loopback."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer
from oracle_judging import understood
from planted import PlantedLatent
from planted_coders import Planted
from planted_others import PlantedStore, build
from scipy import stats

from autointerp.config import build_config
from autointerp.examples.sampling import labelled_set
from autointerp.judges.logprobs import expected_levels
from autointerp.judges.windows import quoted
from autointerp.latents import (
    AutointerpError,
    Explanation,
    Failure,
    LatentId,
    Score,
    Values,
)
from autointerp.llm.client import Reply, TokenLogprob, Usage
from autointerp.llm.templates import Templates
from autointerp.patterns import matches
from autointerp.pipeline.imported import check_readable
from autointerp.registry import scorers
from autointerp.scorers import Materials
from autointerp.scorers.simulation import SimulationOptions, SimulationScorer
from autointerp.scorers.values import Baselines

_TOKEN = re.compile(r"^\d+\. (\".*\")$", re.MULTILINE)
_BEFORE = re.compile(r"^before: (\".*\")$", re.MULTILINE)
_EXPLANATION = re.compile(r"<explanation>\n(.*?)\n</explanation>", re.DOTALL)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("simulation"))


def materials(world: PlantedStore, latent: PlantedLatent) -> Materials:
    found = world.materials(latent)
    assert found.evidence is not None
    select = partial(labelled_set, world.store, found.latent, "select", found.evidence)
    return replace(found, selection=select)


def by_pattern(
    world: PlantedStore, latent: PlantedLatent, text: str | None = None, **options: Any
) -> Score:
    scorer = SimulationScorer(SimulationOptions(**options))
    return asyncio.run(scorer.score(world.explanation(latent, text), materials(world, latent)))


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
    found = next(q for q in reversed(question) if _EXPLANATION.search(q))
    explanation, before = _EXPLANATION.search(found), _BEFORE.search(found)
    assert explanation is not None
    assert before is not None
    tokens = [json.loads(token) for token in _TOKEN.findall(found)]
    return explanation[1], tokens, json.loads(before[1]).split()


def oracle(body: Body) -> Any:
    explanation, tokens, before = asked(body)
    return {"levels": [9 * hit for hit in matches(understood(explanation), tokens, before)]}


def values(score: Score) -> dict[str, float]:
    return {name: metric.value for name, metric in score.metrics.items()}


# Validity


def test_true_explanations_predict_and_others_do_not(world: PlantedStore) -> None:
    latents, own, other = world.latents[::2], [], []
    for i, latent in enumerate(latents):
        own.append(values(by_pattern(world, latent)))
        stranger = latents[(i + 5) % len(latents)].pattern
        other.append(values(by_pattern(world, latent, stranger)))
    assert np.mean([v["pearson"] for v in own]) >= 0.95
    assert min(v["pearson"] for v in own) >= 0.6
    assert np.mean([v["r_squared"] for v in own]) >= 0.9
    assert max(v["pearson"] for v in other) <= 0.1
    assert max(v["r_squared"] for v in other) <= 0.1


@pytest.mark.parametrize("variant", ["balanced", "sage"])
def test_where_a_token_stands_tells_nothing(world: PlantedStore, variant: str) -> None:
    found = [by_pattern(world, latent, variant=variant) for latent in world.latents]
    own = np.array([score.metrics["position_only"].value for score in found])
    assert abs(own.mean()) <= 0.05
    # A predictor that saw the places of all other latents' activations does no better.
    truths = [np.array(_rows(score)) for score in found]
    shares = np.stack([truth.mean(0) / truth.sum() for truth in truths])
    for i, truth in enumerate(truths):
        predicted = np.delete(shares, i, 0).mean(0)
        own[i] = stats.pearsonr(np.tile(predicted, len(truth)), truth.ravel())[0]
    assert abs(own.mean()) <= 0.05
    assert np.quantile(own, 0.95) <= 0.1


def _rows(score: Score) -> list[tuple[float, ...]]:
    return [o.truth for o in score.outcomes if isinstance(o, Values)]


def test_what_the_token_alone_cannot_tell_is_lift(world: PlantedStore) -> None:
    """An either-or of words is all in the words; a word after another is not."""
    sets = [by_pattern(world, i) for i in world.truth.family("either_or")[:4]]
    orders = [by_pattern(world, i) for i in world.truth.family("previous")[:4]]
    lift = [np.mean([s.metrics["lift_over_token_lookup"].value for s in g]) for g in (sets, orders)]
    assert lift[0] <= 0.05
    assert lift[1] >= lift[0] + 0.03
    for score in sets:
        found = values(score)
        for name in ("position_only", "token_lookup"):
            assert found[f"lift_over_{name}"] == pytest.approx(found["pearson"] - found[name])


# Metrics


def test_metrics_are_those_of_the_outcomes(world: PlantedStore) -> None:
    latent = world.truth.family("earlier")[0]
    score = by_pattern(world, latent)
    outcomes = [o for o in score.outcomes if isinstance(o, Values)]
    assert [o.source for o in outcomes] == ["activating"] * 10 + ["random"] * 10
    assert [o.decile for o in outcomes[:10]] == list(range(10))
    truth = np.concatenate([o.truth for o in outcomes])
    predicted = np.concatenate([o.predicted for o in outcomes])
    found = score.metrics
    assert found["pearson"].value == pytest.approx(stats.pearsonr(truth, predicted)[0])
    assert found["pearson"].n == 20
    assert found["pearson"].low is not None
    assert found["pearson"].low <= found["pearson"].value
    each = [
        stats.pearsonr(o.truth, o.predicted)[0] if len(set(o.predicted)) > 1 else 0.0
        for o in outcomes[:10]
    ]
    assert found["per_text"].value == pytest.approx(np.mean(each))
    assert (found["per_text"].n, found["constant_truth"].value) == (10, 10)
    assert (score.headline, score.chance, score.judge) == ("pearson", 0.0, "pattern")


def test_the_token_baseline_is_the_mean_over_explain_windows(world: PlantedStore) -> None:
    latent = world.truth.family("unless")[1]
    evidence = world.materials(latent).evidence
    assert evidence is not None
    quiet = evidence.background.token_ids[evidence.background_maxima <= 0]
    sums: dict[int, float] = {}
    counts: dict[int, float] = {}
    for example in evidence.sampled:
        for token, value in zip(example.token_ids, example.activations, strict=True):
            sums[token] = sums.get(token, 0.0) + value
            counts[token] = counts.get(token, 0.0) + 1
    for token in quiet.ravel():
        counts[token] = counts.get(token, 0.0) + len(evidence.sampled) / len(quiet)
    ids = np.concatenate([i.example.token_ids for i in world.materials(latent).test.items])
    found = Baselines.of(evidence).by_token(ids)
    overall = sum(sums.values()) / sum(counts.values())
    expected = [sums.get(t, 0.0) / counts[t] if t in counts else overall for t in ids]
    assert found == pytest.approx(expected)
    never = np.array([10_000], dtype=np.int32)
    assert Baselines.of(evidence).by_token(never) == pytest.approx([overall])


def test_sage_takes_ten_active_windows_of_all_strengths(world: PlantedStore) -> None:
    latent = world.latents[0]
    score = by_pattern(world, latent, variant="sage")
    assert {o.source for o in score.outcomes} == {"activating"}
    maxima = [max(row) for row in _rows(score)]
    everything = sorted(i.example.maximum for i in world.materials(latent).test.items if i.truth)
    low, high = everything[len(everything) // 3], everything[-(len(everything) // 3)]
    assert max(maxima[:3]) <= low
    assert min(maxima[6:]) >= high
    assert len(maxima) == 10
    assert values(score)["constant_truth"] == 0


def test_r_squared_is_fitted_on_other_windows_and_may_be_left_out(world: PlantedStore) -> None:
    latent = world.latents[0]
    assert "r_squared" not in by_pattern(world, latent, r_squared=False).metrics
    shown = materials(world, latent)
    assert shown.selection is not None
    few = replace(shown.selection(), shortage="6 active windows")
    scorer = SimulationScorer()
    score = asyncio.run(
        scorer.score(world.explanation(latent), replace(shown, selection=lambda: few))
    )
    assert score.status == "scored"
    assert score.details == {"no_r_squared": "6 active windows"}
    assert "r_squared" not in score.metrics


def test_the_same_windows_are_drawn_whatever_was_scored_before(world: PlantedStore) -> None:
    first, second = world.latents[:2]
    scorer = SimulationScorer()
    shown = materials(world, second)
    asyncio.run(scorer.score(world.explanation(first), materials(world, first)))
    again = asyncio.run(scorer.score(world.explanation(second), shown))
    assert again == by_pattern(world, second)
    other = asyncio.run(SimulationScorer(seed=1).score(world.explanation(second), shown))
    assert _rows(other) != _rows(again)


# A language model


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
        replace(o, predicted=tuple(9 * p for p in o.predicted))
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
        shown = replace(shown, test=replace(shown.test, items=items), selection=None)
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


def test_too_few_windows_cost_nothing(world: PlantedStore, tmp_path: Path) -> None:
    latent = world.latents[0]
    shown = materials(world, latent)
    active = [i for i in shown.test.items if i.truth]
    sets = {
        "9 active": replace(shown.test, items=active[:9]),
        "too dense": replace(shown.test, items=active, unavailable={"random": "too dense"}),
        "few windows": replace(shown.test, shortage="few windows"),
    }
    for reason, test in sets.items():
        score = asyncio.run(
            SimulationScorer().score(world.explanation(latent), replace(shown, test=test))
        )
        assert score.status == "too_few_examples"
        assert reason in str(score.reason)
        assert not score.outcomes


# Configuration and wording


def test_configuration_says_who_predicts() -> None:
    llm = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    pattern, model = [{"kind": "simulation"}], [{"kind": "simulation", "by": "llm"}]
    assert not build_config({"scorers": pattern}).needs("score")
    with pytest.raises(AutointerpError, match=r"llms\.judge"):
        build_config({"scorers": model})
    found = build_config({"scorers": model, "llms": {"judge": llm}})
    assert found.needs("score") == {"client", "templates"}
    words = {"explainer": {"kind": "single_pass"}, "llms": {"explainer": llm, "judge": llm}}
    with pytest.raises(AutointerpError, match=r"scorers\.0\.by: pattern reads .*by=llm"):
        build_config({**words, "scorers": pattern})
    assert build_config({**words, "scorers": model})


def test_texts_from_elsewhere_must_be_patterns_where_a_pattern_predicts() -> None:
    words = [Explanation(LatentId("layers.0", 1), "words about rain", "imported")]
    pattern, model = [{"kind": "simulation"}], [{"kind": "simulation", "by": "llm"}]
    llms = {"judge": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}}
    with pytest.raises(AutointerpError, match=r"layers\.0/1: .*patterns"):
        check_readable(build_config({"scorers": pattern}), Path("file.csv"), words)
    check_readable(build_config({"scorers": model, "llms": llms}), Path("file.csv"), words)


def test_simulation_takes_no_unknown_options() -> None:
    with pytest.raises(ValueError, match="windows"):
        scorers.options({"kind": "simulation", "windows": 3})


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
