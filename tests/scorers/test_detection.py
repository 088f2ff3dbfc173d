"""Detection scoring through its public door, with scripted judges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from given_sets import with_test

from autointerp.judges import NoVerdict, Verdict
from autointerp.latents import (
    Example,
    ExampleBlock,
    Explanation,
    Failure,
    Item,
    Label,
    LabelledSet,
    LatentId,
    Score,
    Source,
)
from autointerp.registry import scorers

LATENT = LatentId("layers.1", 7)
VOCABULARY = [f"t{i}" for i in range(200)]
Answer = Verdict | NoVerdict


class ScriptedJudge:
    """Answers by window (known by its first token), and remembers what it was shown."""

    name = "scripted"

    def __init__(self, answer: Callable[[int], Answer]) -> None:
        self.answer = answer
        self.shown: list[Example] = []

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Answer]:
        self.shown = list(examples)
        return [self.answer(int(e.token_ids[0])) for e in examples]


def item(number: int, source: Source, decile: int | None = None) -> Item:
    positive = source == "activating"
    activations = np.array([0, 2.0 * positive], dtype=np.float32)
    token_ids = np.array([number, 3], dtype=np.int32)
    owner = LATENT if positive else LatentId("layers.1", 9)
    one = np.array([number])
    left = np.zeros((1, 0), dtype=np.int32)
    block = ExampleBlock(owner, one, one, token_ids[None], activations[None], left, VOCABULARY)
    return Item(Example(block, 0), positive, source, decile)


def labelled_set(random: int = 20, shortage: str | None = None) -> LabelledSet:
    """Windows 0–19 activating (two a decile), 20–39 random, 40–49 token, 50–59 neighbour."""
    items = [item(i, "activating", i // 2) for i in range(20)]
    items += [item(20 + i, "random") for i in range(random)]
    items += [item(40 + i, "token") for i in range(10)]
    items += [item(50 + i, "neighbour") for i in range(10)]
    gaps = {"semantic": "no embedder"} | ({} if random else {"random": "too dense"})
    return LabelledSet(LATENT, "test", items, gaps, shortage, dropped=3)


def detect(
    answer: Callable[[int], Answer], test: LabelledSet | None = None, seed: int = 0
) -> tuple[Score, ScriptedJudge]:
    judge, kind = ScriptedJudge(answer), scorers.get("detection")
    scorer = kind.implementation(kind.options(), seed=seed, judge=judge)
    explanation = Explanation(LATENT, "a thing", "by hand")
    score = asyncio.run(scorer.score(explanation, with_test(LATENT, test or labelled_set())))
    assert isinstance(score, Score)
    return score, judge


def mixed(number: int) -> Answer:
    """Recall .8, specificity .9 (random), .5 (token), 1 (neighbour)."""
    return Verdict(4 <= number < 20 or number in (20, 21) or 40 <= number < 45)


def test_metrics_by_hand() -> None:
    score, _ = detect(mixed)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert score.headline == "balanced_accuracy"
    assert score.chance == 0.5
    assert score.status == "scored"
    assert score.judge == "scripted"
    assert score.explanation == "layers.1/7:input:by hand"
    assert values["balanced_accuracy"] == pytest.approx(0.85)
    assert values["token"] == pytest.approx(0.65)
    assert values["neighbour"] == pytest.approx(0.9)
    assert values["hard"] == pytest.approx((0.8 + 0.75) / 2)
    assert values["recall"] == pytest.approx(0.8)
    assert values["specificity_random"] == pytest.approx(0.9)
    assert values["specificity_token"] == pytest.approx(0.5)
    assert [values[f"recall_decile_{d}"] for d in range(10)] == [0, 0] + [1] * 8
    assert values["precision"] == pytest.approx(16 / 18)
    assert values["f1"] == pytest.approx(32 / 38)
    assert values["mcc"] == pytest.approx(0.704, abs=0.001)
    assert values["failures"] == 0
    assert values["worst_case"] == values["best_case"] == pytest.approx(0.85)
    assert "semantic" not in values
    assert "auroc" not in values
    assert score.details == {
        "unavailable": {"semantic": "no embedder"},
        "dropped": 3,
        "pairs": [2, 2, 16],
    }


def test_headline_and_hard_metrics_have_intervals_and_counts() -> None:
    score, _ = detect(mixed)
    for name, n in {"balanced_accuracy": 40, "hard": 40, "token": 30, "recall": 20}.items():
        metric = score.metrics[name]
        assert metric.n == n
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high


def test_outcomes_keep_the_sets_order_source_and_decile() -> None:
    test = labelled_set()
    score, _ = detect(mixed, test)
    for one, outcome in zip(test.items, score.outcomes, strict=True):
        assert isinstance(outcome, Label)
        assert (outcome.truth, outcome.source) == (one.truth, one.source)
        assert outcome.decile == one.decile


def test_failures_are_wrong_counted_and_bounded() -> None:
    def answer(number: int) -> Answer:
        return NoVerdict("cut off") if number in (5, 30, 45) else mixed(number)

    score, _ = detect(answer)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert [o.reason for o in score.outcomes if isinstance(o, Failure)] == ["cut off"] * 3
    assert values["failures"] == 3
    assert score.metrics["failures"].n == 60
    assert values["recall"] == pytest.approx(0.75)
    assert values["balanced_accuracy"] == values["worst_case"] == pytest.approx(0.8)
    assert values["best_case"] == pytest.approx(0.85)


def test_a_score_without_any_answer_is_failed() -> None:
    score, _ = detect(lambda _: NoVerdict("no connection"))
    assert score.status == "failed"
    assert score.reason == "no item was judged: no connection"
    assert len(score.outcomes) == 60
    assert score.metrics["failures"].value == 60


def test_probabilities_give_rank_metrics_in_which_failures_rank_wrong() -> None:
    def answer(number: int) -> Answer:
        return Verdict(number < 20, 0.9 if number < 20 else 0.2)

    perfect, _ = detect(answer)
    assert perfect.metrics["auroc"].value == perfect.metrics["auprc"].value == 1.0
    failing, _ = detect(lambda n: NoVerdict("cut off") if n in (0, 1) else answer(n))
    assert failing.metrics["auroc"].value == pytest.approx(0.9)


def test_the_judge_sees_neither_activations_nor_owners_nor_the_sets_order() -> None:
    score, judge = detect(mixed)
    assert {e.owner for e in judge.shown} == {LATENT}
    assert all(np.isnan(e.activations).all() for e in judge.shown)
    order = [e.document for e in judge.shown]
    assert sorted(order) == list(range(60))
    assert order != sorted(order)
    again, same = detect(mixed)
    assert [e.document for e in same.shown] == order
    assert again == score
    _, other = detect(mixed, seed=1)
    assert [e.document for e in other.shown] != order


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (labelled_set(shortage="6 active windows, 10 are needed"), "6 active windows"),
        (labelled_set(random=0), "too dense"),
        (replace(labelled_set(), items=labelled_set().items[20:]), "no windows in which"),
    ],
)
def test_too_few_examples_cost_nothing(test: LabelledSet, reason: str) -> None:
    score, judge = detect(mixed, test)
    assert score.status == "too_few_examples"
    assert reason in str(score.reason)
    assert not judge.shown
    assert not score.outcomes
    assert not score.metrics


def test_detection_takes_no_unknown_options() -> None:
    with pytest.raises(ValueError, match="positives"):
        scorers.options({"kind": "detection", "positives": 3})
