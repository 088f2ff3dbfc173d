"""Generation on the planted subject: its scores, by texts that patterns write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from generation_world import GenerationWorld
from planted_coders import Planted
from planted_others import values
from small_run import document, settings

from autointerp.config import build_config
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.latents import AutointerpError, Number, Score
from autointerp.registry import scorers


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> GenerationWorld:
    return GenerationWorld.of(planted, tmp_path_factory.mktemp("generation"))


def headlines(found: Sequence[Score]) -> np.ndarray:
    return np.array([score.metrics[score.headline].value for score in found])


# Validity


def test_true_patterns_score_high_and_others_at_chance(world: GenerationWorld) -> None:
    latents = world.planted.latents[::2]
    own = world.scores([(latent, latent.pattern) for latent in latents])
    strangers = [*latents[7:], *latents[:7]]
    pairs = zip(latents, strangers, strict=True)
    other = world.scores([(latent, stranger.pattern) for latent, stranger in pairs])
    assert headlines(own).mean() >= 0.97
    assert headlines(own).min() >= 0.8
    assert headlines(other).max() <= 0.6
    assert headlines(other).mean() == pytest.approx(0.5, abs=0.05)
    assert all(score.chance == 0.5 for score in own)
    assert all(score.judge == "pattern" for score in own)


def test_what_is_too_narrow_hits_and_what_is_too_broad_does_not(world: GenerationWorld) -> None:
    latent = world.planted.truth.family("previous")[0]
    (word,) = latent.rule.strengths
    (before,) = latent.rule.previous
    asked = [f'"{word}"', f'"{word}" after "{before}" before "the"']
    broad, narrow = map(values, world.scores([(latent, text) for text in asked]))
    assert broad["hit_rate"] <= 0.2
    assert narrow["hit_rate"] == 1
    assert narrow["rejection_rate"] < 0.9


def test_sage_counts_ten_texts_at_half_of_the_largest(world: GenerationWorld) -> None:
    latents = world.planted.latents[::3]
    own = world.scores([(latent, latent.pattern) for latent in latents], variant="sage")
    other = world.scores(
        [(latent, latents[i - 1].pattern) for i, latent in enumerate(latents)], variant="sage"
    )
    assert headlines(own).mean() >= 0.95
    assert headlines(other).mean() <= 0.15
    score, evidence = own[0], world.planted.materials(latents[0]).evidence
    assert evidence is not None
    half = 0.5 * np.mean([example.maximum for example in evidence.top[:10]])
    assert score.details["thresholds"] == {"half": pytest.approx(half)}
    assert (score.headline, score.chance, len(score.outcomes)) == ("success_rate", 0.0, 10)
    hits = [o.value >= half for o in score.outcomes if isinstance(o, Number)]
    assert score.metrics["success_rate"].value == np.mean(hits)


# Metrics


def test_metrics_are_those_of_the_outcomes_at_the_agents_threshold(world: GenerationWorld) -> None:
    latent = world.planted.truth.family("token_set")[0]
    (score,) = world.scores([(latent, latent.pattern)])
    evidence = world.planted.materials(latent).evidence
    assert evidence is not None
    exemplars = Exemplars.of(evidence, world.subject.encode_text, seed=0)
    assert exemplars is not None
    scale = exemplars.scale
    assert score.details["thresholds"] == {"on": scale.on, "half": 0.5 * scale.strong}
    numbers = [o for o in score.outcomes if isinstance(o, Number)]
    assert [o.source for o in numbers] == ["activating"] * 10 + ["near_miss"] * 20
    found = values(score)
    for suffix, threshold in (("", scale.on), ("_half", 0.5 * scale.strong)):
        hit = np.mean([o.value >= threshold for o in numbers[:10]])
        rejected = np.mean([o.value < threshold for o in numbers[10:]])
        assert found[f"hit_rate{suffix}"] == hit
        assert found[f"rejection_rate{suffix}"] == rejected
        assert found[f"balanced_accuracy{suffix}"] == pytest.approx((hit + rejected) / 2)
    assert score.metrics["balanced_accuracy"].n == 30
    assert score.metrics["balanced_accuracy"].low is not None
    assert len(score.details["samples"]["near_miss"]) == 3


def test_a_pattern_of_nothing_gets_no_hit(world: GenerationWorld) -> None:
    (score,) = world.scores([(world.planted.latents[0], "nothing")])
    found = values(score)
    assert found["hit_rate"] == 0
    assert found["failures"] == 10
    assert found["rejection_rate"] >= 0.7
    assert all(isinstance(o, Number) for o in score.outcomes[10:])


def test_latents_without_examples_cost_nothing(world: GenerationWorld) -> None:
    dead = next(i for i in world.planted.truth.family("dead"))
    (score,) = world.scores([(dead, '"the"')])
    assert score.status == "too_few_examples"
    assert not score.outcomes


def test_scores_do_not_depend_on_order_or_company(world: GenerationWorld) -> None:
    pairs = [(latent, latent.pattern) for latent in world.planted.latents[:6]]
    together = world.scores(pairs)
    assert world.scores(pairs[::-1])[::-1] == together
    assert world.scores(pairs[3:4]) == together[3:4]


def test_what_is_no_pattern_is_refused(world: GenerationWorld) -> None:
    with pytest.raises(AutointerpError, match="not a pattern"):
        world.scores([(world.planted.latents[0], "words about rain")])


# Configuration, and a run


def test_configuration_says_who_writes() -> None:
    llm = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    pattern, model = [{"kind": "generation"}], [{"kind": "generation", "by": "llm"}]
    needs = {"probes", "refused"}
    assert build_config({"scorers": pattern}).needs("score") == needs | {"encode"}
    with pytest.raises(AutointerpError, match=r"llms\.writer"):
        build_config({"scorers": model})
    found = build_config({"scorers": model, "llms": {"writer": llm}})
    assert found.needs("score") == needs | {"client", "templates"}
    words = {"explainer": {"kind": "single_pass"}, "llms": {"explainer": llm, "writer": llm}}
    with pytest.raises(AutointerpError, match=r"scorers\.0\.by: pattern reads .*by=llm"):
        build_config({**words, "scorers": pattern})
    with pytest.raises(ValueError, match="texts"):
        scorers.options({"kind": "generation", "texts": 3})


def test_a_run_without_a_language_model(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        *settings(planted, "alive:3", "alive:2"),
        "explainer={kind: pattern}",
        "scorers=[{kind: generation}, {kind: simulation, variant: sage}]",
    ]
    told = document(capsys, "run", "--run", str(tmp_path / "run"), *overrides)["scores"]
    assert told["generation"]["mean"] > told["generation"]["controls"]["shuffled"] + 0.2
    assert told["simulation"]["mean"] > told["simulation"]["controls"]["shuffled"] + 0.4
    assert told["simulation"]["chance"] == 0
