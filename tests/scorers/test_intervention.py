"""Intervention on the planted subject: by tokens, by scripted models, its arithmetic."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import steered_world
from golden import check_golden
from llm_asking import run
from llm_server import Body, LLMServer
from planted_coders import Planted
from steered_world import SteeredWorld, where

from autointerp.explainers.effects import EffectsExplainer, EffectsOptions
from autointerp.judges import NoVerdict
from autointerp.judges.llm import LLMJudge
from autointerp.judges.logprob import LogprobJudge
from autointerp.judges.pairs import TextPair
from autointerp.judges.pattern import PatternJudge
from autointerp.judges.windows import quoted
from autointerp.latents import AutointerpError, Explanation, Failure, LatentId, Number, Score
from autointerp.llm.templates import Templates
from autointerp.scorers.contest_metrics import Table
from autointerp.scorers.contests import Answers, Contest
from autointerp.scorers.effects import better, compared
from autointerp.scorers.intervention import InterventionOptions, InterventionScorer
from autointerp.subject.direction import Direction
from autointerp.subject.steering import Steering

LINE = re.compile(r"^\d+\. (\{.*\})$", re.MULTILINE)
SMALL = InterventionOptions(pairs=16, foils=2)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> SteeredWorld:
    return steered_world.build(planted, tmp_path_factory.mktemp("store"))


async def explained(
    world: SteeredWorld, effects: EffectsExplainer, count: int
) -> list[Explanation]:
    latents = [where(latent) for latent in world.latents(count)]
    return await asyncio.gather(*(world.explain(effects, latent) for latent in latents))


def told(
    world: SteeredWorld, count: int, options: InterventionOptions, together: bool = True
) -> list[Score]:
    """The scores of some latents, all at once or one after the other."""

    async def work(effects: EffectsExplainer) -> list[Score]:
        texts = await explained(world, effects, count)
        scorer = InterventionScorer(options, judge=PatternJudge(), effects=effects)
        scores = [scorer.score(e, world.materials(e.latent, texts)) for e in texts]
        if together:
            return await asyncio.gather(*scores)
        return [await score for score in scores[::-1]][::-1]

    return world.run(work, prompts=16)


@pytest.fixture(scope="module")
def scores(world: SteeredWorld) -> list[Score]:
    return told(world, 4, SMALL)


def test_the_latents_own_effect_is_told(scores: list[Score]) -> None:
    for score in scores:
        values = {name: metric.value for name, metric in score.metrics.items()}
        assert (score.status, score.headline, score.chance) == ("scored", "gain", 0.0)
        assert min(values["own"], values["direction"], values["clean"]) >= 0.9
        assert values["ablation"] >= 0.8
        assert values["gain"] == pytest.approx(values["own"] - values["other"])
        assert values["own"] == pytest.approx(
            np.mean([values["own_neutral"], values["own_activating"]]), abs=0.05
        )
        assert 0.5 <= values["kl_ratio"] <= 2
        low, high = score.metrics["gain"].low, score.metrics["gain"].high
        assert low is not None
        assert high is not None
        assert low <= values["gain"] <= high
        assert len(score.details["foils"]) <= 2
        assert 0.01 < score.details["over_state"] < 10
        assert score.details["over_maximum"] > 0
        by_kind = [of["own"] for of in score.details["kl"].values()]
        assert np.mean(by_kind) == pytest.approx(values["kl_ratio"], rel=1e-3)


def test_scores_do_not_depend_on_what_else_is_in_flight(
    world: SteeredWorld, scores: list[Score]
) -> None:
    together, apart = scores, told(world, 4, SMALL, together=False)
    assert [s.outcomes for s in together] == [s.outcomes for s in apart]
    assert [s.status for s in together] == [s.status for s in apart]
    for one, other in zip(together, apart, strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        for name, metric in one.metrics.items():
            assert metric.value == pytest.approx(other.metrics[name].value, rel=1e-3)


def test_what_stands_beside_the_headline_can_be_left_out(world: SteeredWorld) -> None:
    (score, *_) = told(world, 3, InterventionOptions(pairs=12, foils=1, beside=()))
    sources = {o.source.removeprefix("unequal ").split()[0] for o in score.outcomes}
    assert sources == {"own", "other", "ablation"}


def test_the_other_effect_of_a_signed_latent_is_judged_apart(world: SteeredWorld) -> None:
    options = InterventionOptions(pairs=12, foils=1, beside=())
    (score, *_) = told(steered_world.signed(world), 3, options)
    assert score.status == "scored"
    assert min(score.metrics[name].value for name in ("own", "negative")) >= 0.9
    sources = [o.source.removeprefix("unequal ").split()[0] for o in score.outcomes]
    assert sources.count("negative") == sources.count("own") == 12


@pytest.mark.slow
def test_planted_latents_are_told_from_random_directions_at_the_same_kl(
    world: SteeredWorld,
) -> None:
    scores = told(world, 24, InterventionOptions(pairs=40))
    accuracies = [s.metrics["direction"].value for s in scores if "direction" in s.metrics]
    assert sum(accuracy >= 0.9 for accuracy in accuracies) >= 20
    null = [s.metrics["null"] for s in scores if "null" in s.metrics]
    assert sum(m.n for m in null) >= 800
    pooled = sum(m.value * m.n for m in null) / sum(m.n for m in null)
    assert abs(pooled - 0.5) <= 0.05


def fitting(body: Body) -> Any:
    """Chooses the continuation with more of the explanation's quoted words; A if none has."""
    question = body["messages"][-1]["content"]
    words = set(
        re.findall(r'"([^",]+)"', question.partition("<explanation>")[2].partition("</")[0])
    )
    found = []
    for line in LINE.findall(question):
        pair = json.loads(line)
        a, b = (sum(w in words for w in pair[side].split()) for side in "AB")
        found.append("B" if b > a else "A")
    return {"choices": found}


def read(
    world: SteeredWorld, folder: Path, answer: Any, control: str | None = None
) -> tuple[Score, LLMServer]:
    """The score of one latent by a language model."""
    with LLMServer(answer) as server:

        async def work(llms: Any) -> Score:
            texts = world.prefixes.rows(128)
            async with Steering(world.subject, world.attached, texts=texts) as steering:
                options = EffectsOptions(prompts=16)
                effects = EffectsExplainer(options, steering=steering, prefixes=world.prefixes)
                known = await explained(world, effects, 3)
                asked = known[0] if control is None else Explanation(
                    known[0].latent, control, "by hand", kind="output"
                )  # fmt: skip
                judge = LLMJudge(client=llms.clients["judge"], templates=Templates())
                scorer = InterventionScorer(SMALL, judge=judge, effects=effects)
                return await scorer.score(asked, world.materials(asked.latent, known))

        return run(server, folder, work), server


def test_a_reader_of_continuations_tells_them_too(world: SteeredWorld, tmp_path: Path) -> None:
    score, _ = read(world, tmp_path, fitting)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert score.status == "scored"
    assert values["own"] >= 0.85
    assert values["clean"] >= 0.85
    assert values["gain"] >= 0.3
    assert "ablation" not in values


def test_a_judge_that_prefers_a_place_is_undecided(world: SteeredWorld, tmp_path: Path) -> None:
    def first(body: Body) -> Any:
        return {"choices": ["A"] * len(LINE.findall(body["messages"][-1]["content"]))}

    score, _ = read(world, tmp_path, first)
    assert score.metrics["own"].value == 0.5
    assert score.metrics["gain"].value == 0.0


def test_the_question_has_no_truth_in_it(world: SteeredWorld, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(body: Body) -> Any:
        asked.append(body["messages"][-1]["content"])
        return fitting(body)

    read(world, tmp_path, answer)
    lines = [json.loads(line) for question in asked for line in LINE.findall(question)]
    assert all(list(line) == ["before", "A", "B"] for line in lines)
    # Every pair stands in some question in both orders.
    seen = {(line["before"], line["A"], line["B"]) for line in lines}
    assert all((before, b, a) in seen for before, a, b in seen)
    for question in asked:
        shown = [json.loads(line)["before"] for line in LINE.findall(question)]
        assert len(set(shown)) == len(shown)  # or what recurs would give itself away


def test_replies_that_cannot_be_used_are_failures(world: SteeredWorld, tmp_path: Path) -> None:
    score, _ = read(world, tmp_path, lambda body: {"choices": ["C"]})
    assert score.status == "failed"
    assert score.reason is not None
    assert score.reason.startswith("no pair was judged: ")
    failures = [o for o in score.outcomes if isinstance(o, Failure)]
    assert len(failures) == score.metrics["failures"].value > 0


class Associating:
    """A base model to which an explanation is the likelier, the more of its words were said."""

    async def logprobs(self, continuations: Sequence[tuple[str, str]]) -> list[float | str]:
        return [self._one(before, text) for before, text in continuations]

    def _one(self, before: str, text: str) -> float:
        said = before.splitlines()[-2].removeprefix("Text: ")
        words = re.findall(r'"([^"]+)"', text)
        return sum(json.loads(said).split().count(word) for word in words) - 2.0 * len(words)


def test_a_base_model_tells_them_by_surprisal(world: SteeredWorld) -> None:
    async def work(effects: EffectsExplainer) -> Score:
        texts = await explained(world, effects, 6)
        judge = LogprobJudge(templates=Templates(), base_lm=Associating())
        scorer = InterventionScorer(SMALL, judge=judge, effects=effects)
        return await scorer.score(texts[0], world.materials(texts[0].latent, texts))

    score = world.run(work, prompts=16)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert score.status == "scored"
    assert score.judge == "logprob"
    assert min(values["own"], values["clean"]) >= 0.85
    assert values["gain"] >= 0.2
    assert values["surprisal"] > 0.1
    assert [o.source for o in score.outcomes].count("surprisal") == 16


def test_an_empty_explanation_gains_nothing(world: SteeredWorld, tmp_path: Path) -> None:
    score, _ = read(world, tmp_path, fitting, control="nothing")
    assert score.metrics["own"].value == 0.5


def test_a_judge_that_compares_nothing_is_a_mistake(world: SteeredWorld) -> None:
    class Detector:
        name = "detector"

    async def work(effects: EffectsExplainer) -> Score:
        texts = await explained(world, effects, 4)
        scorer = InterventionScorer(SMALL, judge=Detector(), effects=effects)  # type: ignore[arg-type]
        return await scorer.score(texts[0], world.materials(texts[0].latent, texts))

    with pytest.raises(AutointerpError, match="detector compares no continuations"):
        world.run(work, prompts=32)


def test_without_other_effects_there_is_nothing_to_compare(world: SteeredWorld) -> None:
    async def work(effects: EffectsExplainer) -> Score:
        texts = await explained(world, effects, 1)
        scorer = InterventionScorer(SMALL, judge=PatternJudge(), effects=effects)
        return await scorer.score(texts[0], world.materials(texts[0].latent, texts))

    score = world.run(work, prompts=32)
    assert score.status == "too_few_examples"
    assert score.outcomes == ()


OWN, FOIL, FAR = (Direction(LatentId("c", i)) for i in range(3))


def table(
    own: Sequence[float | NoVerdict], other: Sequence[float | NoVerdict], kl: float = 1.0
) -> Table:
    """Pairs of which each fourth is against a direction at another KL."""
    sides = [FAR if i % 4 == 3 else FOIL for i in range(len(own))]
    contests = [Contest("own", "x", OWN, side, i) for i, side in enumerate(sides)]
    contests += [Contest("other", "y", OWN, side, i) for i, side in enumerate(sides)]
    answers = Answers([*own, *other], {OWN: kl, FOIL: 1.2, FAR: 2.1})
    return Table(contests, answers, ["neutral", "activating"] * len(own), 1.0, seed=0)


def test_the_arithmetic_by_hand() -> None:
    own: list[float | NoVerdict] = [1, 1, 0.5, 0] * 4
    found = table(own, [0, 1, 0.5, 1] * 4)
    metrics = found.metrics()
    assert found.verdict() == ("scored", None)
    assert metrics["own"].n == metrics["gain"].n == 12
    assert metrics["own"].value == pytest.approx(2.5 / 3)
    assert metrics["other"].value == pytest.approx(1.5 / 3)
    assert metrics["gain"].value == pytest.approx(1 / 3)
    assert metrics["own_neutral"].value == pytest.approx(0.75)
    assert metrics["own_activating"].value == 1
    assert metrics["unequal"].value == 4
    sources = [o.source for o in found.outcomes()]
    assert sources[:4] == ["own neutral", "own activating", "own neutral", "unequal own activating"]
    assert isinstance(found.outcomes()[0], Number)


def test_failures_count_against_the_explanation() -> None:
    failed = NoVerdict("cut")
    own: list[float | NoVerdict] = [failed, 1, 1, 1] * 4
    other: list[float | NoVerdict] = [1, failed, 0, 0] * 4
    metrics = table(own, other).metrics()
    assert metrics["own"].value == pytest.approx(2 / 3)
    assert metrics["gain"].value == metrics["worst_case"].value == pytest.approx((-1 + 0 + 1) / 3)
    assert metrics["best_case"].value == pytest.approx((0 + 1 + 1) / 3)
    assert metrics["failures"].value == 8


def test_a_latent_at_another_kl_on_test_leaves_the_summary() -> None:
    found = table([1] * 16, [0] * 16, kl=2.5)
    status, reason = found.verdict()
    assert status == "too_few_examples"
    assert reason == "0 pairs at equal KL; on TEST the latent's is 2.50 of the target"
    assert "gain" not in found.metrics()
    assert found.metrics()["kl_ratio"].value == 2.5


def test_rises_equal_those_of_plain_probabilities() -> None:
    rng = np.random.default_rng(0)
    clean, steered = rng.dirichlet(np.ones(6), 5), rng.dirichlet(np.ones(6), 5)
    sets = [rng.random(6) < 0.5 for _ in range(3)] + [np.zeros(6, bool)]
    sets[0][:] = True
    found = compared(np.log(clean).astype(np.float32), np.log(steered).astype(np.float32), sets)
    for row, named in zip(found[:3], sets, strict=False):
        expected = np.log(steered[:, named].sum(1) / clean[:, named].sum(1))
        assert row == pytest.approx(expected, abs=1e-5)
    assert found[3].tolist() == [0] * 5  # an explanation that names nothing gains nothing
    assert [better(a, b) for a, b in [(1, 0), (0, 1), (1, 1 + 1e-6)]] == [1.0, 0.0, 0.5]


def test_pairs_by_the_pattern_judge_read_tokens_alone() -> None:
    vocabulary = ["a", "b", " a", "ab"]
    named = PatternJudge().promoted('"a" after "b"; or tokens starting with "ab"', vocabulary)
    assert named.tolist() == [True, False, False, True]
    assert not PatternJudge().promoted("nothing", vocabulary).any()


PAIRS = [
    TextPair("the cat\n", ' "sat"', " on {{ x }}"),
    TextPair("", "🎉", "</explanation>"),
]


def test_the_wording_for_base_models() -> None:
    text = quoted(PAIRS[0].first + "\n")
    check_golden("judge/effect", Templates().render("judge/effect", text=text))


@pytest.mark.parametrize("few_shot", [True, False])
def test_the_wording(few_shot: bool, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Client:
        model = "none"

        async def complete(self, request: Any) -> Any:
            asked.append(request)
            raise RuntimeError

    judge = LLMJudge(client=Client(), templates=Templates())  # type: ignore[arg-type]
    judge.options = judge.options.model_copy(update={"few_shot": few_shot})
    with pytest.raises(RuntimeError):
        asyncio.run(judge.prefer("brings about cats", PAIRS))
    name = "few_shot" if few_shot else "plain"
    check_golden(f"judge/intervention_{name}", asked[0].messages)
