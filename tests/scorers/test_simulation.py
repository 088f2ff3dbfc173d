"""Simulation on the planted subject, by patterns: validity, metrics, configuration."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from given_sets import with_set
from planted_coders import Planted
from planted_others import PlantedStore, build, values
from scipy import stats
from simulating import by_pattern, materials

from autointerp.config import build_config
from autointerp.latents import AutointerpError, Explanation, LatentId, Score, Values
from autointerp.pipeline.imported import check_readable
from autointerp.registry import scorers
from autointerp.scorers.simulation import SimulationScorer
from autointerp.scorers.values import Baselines


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("simulation"))


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
            SimulationScorer().score(world.explanation(latent), with_set(shown, test))
        )
        assert score.status == "too_few_examples"
        assert reason in str(score.reason)
        assert not score.outcomes


# Configuration


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
