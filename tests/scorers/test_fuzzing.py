"""Fuzzing through its public door, with scripted judges."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from given_sets import with_test
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.judges import Marks, NoVerdict, Verdict
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import (
    Example,
    ExampleBlock,
    Explanation,
    Failure,
    Item,
    LabelledSet,
    LatentId,
    Score,
    Source,
)
from autointerp.scorers.fuzzing import FuzzingScorer

LATENT = LatentId("layers.1", 7)
WINDOW = 8
WORDS = [f"w{i}" for i in range(50)]
VOCABULARY = [*WORDS, "bank", "river", "the"]
BANK, RIVER, THE = range(50, 53)
Answer = Verdict | NoVerdict
Rows = Sequence[tuple[Source, Sequence[float]]]


def labelled_set(rows: Rows, tokens: Callable[[int], Sequence[int]] | None = None) -> LabelledSet:
    """A window a row, with the activations given; window ``i`` is document ``i``."""
    n, rng = len(rows), np.random.default_rng(0)
    ids = rng.integers(0, len(WORDS), (n, WINDOW)).astype(np.int32)
    if tokens is not None:
        ids = np.array([tokens(i) for i in range(n)], np.int32)
    activations = np.array([values for _, values in rows], np.float32)
    numbers, left = np.arange(n), np.full((n, 1), THE, np.int32)
    block = ExampleBlock(LATENT, numbers, numbers, ids, activations, left, VOCABULARY)
    items = [
        Item(example, source == "activating", source, i % 10 if source == "activating" else None)
        for i, (example, (source, _)) in enumerate(zip(block.examples(), rows, strict=True))
    ]
    return LabelledSet(LATENT, "test", items, {"semantic": "no embedder"}, None, dropped=3)


def at(*places: int, level: float = 1.0) -> list[float]:
    return [level if i in places else 0.0 for i in range(WINDOW)]


def spread(active: int = 40, random: int = 30) -> LabelledSet:
    """Windows active at one or two tokens and, weaker, at a third; and silent ones."""
    rows: list[tuple[Source, Sequence[float]]] = []
    for i in range(active):
        values = at(i % 5, i % 5 + i % 2, level=2.0)
        values[7] = 0.5  # less than 0.3 of the maximum
        rows.append(("activating", values))
    rows += [("random", at())] * random
    rows += [("token", at())] * 10
    return labelled_set(rows)


@dataclass
class ScriptedJudge:
    """Answers by a window and its marks, and remembers what it was shown."""

    answer: Callable[[Example, Marks], Answer]
    name: str = "scripted"
    shown: list[tuple[Example, Marks]] = field(default_factory=list)

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Answer]:
        raise AssertionError("fuzzing asks about marked tokens")

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Answer]:
        self.shown = list(zip(examples, marks, strict=True))
        return [self.answer(example, mask) for example, mask in self.shown]


def yes(_: Example, __: Marks) -> Answer:
    return Verdict(True)


def fuzz(
    test: LabelledSet, answer: Callable[[Example, Marks], Answer] = yes, seed: int = 0
) -> tuple[Score, ScriptedJudge]:
    judge = ScriptedJudge(answer)
    scorer = FuzzingScorer(seed=seed, judge=judge)
    explanation = Explanation(LATENT, "a thing", "by hand")
    return asyncio.run(scorer.score(explanation, with_test(LATENT, test))), judge


def truthful(test: LabelledSet) -> Callable[[Example, Marks], Answer]:
    """Right about every item: whether the marked tokens are active, window by window."""
    active = {item.example.document: item.example.activations > 0 for item in test.items}
    return lambda example, marks: Verdict(bool(active[example.document][marks].all()))


def test_the_headline_is_over_own_marks_and_donors() -> None:
    test = spread()
    right = truthful(test)

    def answer(example: Example, marks: Marks) -> Answer:
        silent = example.document >= 40
        return Verdict(True) if silent else right(example, marks)

    score, _ = fuzz(test, answer)
    values = {name: metric.value for name, metric in score.metrics.items()}
    assert (score.headline, score.chance, score.status) == ("balanced_accuracy", 0.5, "scored")
    assert (score.scorer, score.judge) == ("fuzzing", "scripted")
    assert values["balanced_accuracy"] == values["recall"] == values["specificity_donor"] == 1.0
    assert values["specificity_random"] == 0.0
    assert values["random"] == 0.5
    assert "hard" not in values
    assert "token" not in values
    assert score.metrics["balanced_accuracy"].n == 40
    assert Counter(o.source for o in score.outcomes) == {
        "activating": 20, "donor": 20, "random": 20,
    }  # fmt: skip
    assert (score.details["unavailable"], score.details["dropped"]) == ({}, 3)


def test_marks_are_of_strong_tokens_on_positives_and_of_inactive_ones_on_negatives() -> None:
    test = spread()
    score, judge = fuzz(test)
    by_document = {item.example.document: item.example for item in test.items}
    truths = dict.fromkeys(("own", "other"), 0)
    for example, marks in judge.shown:
        activations = by_document[example.document].activations
        own = activations >= 0.3 * activations.max() if activations.any() else marks & False
        if (marks == own).all():
            truths["own"] += 1
        else:
            assert not activations[marks].any()
            truths["other"] += 1
    assert truths == {"own": 20, "other": 40}
    assert len(score.outcomes) == 60


def test_every_window_is_shown_once_and_every_mask_once_a_source() -> None:
    test = spread()
    judge = fuzz(test, truthful(test))[1]
    documents = [example.document for example, _ in judge.shown]
    assert len(set(documents)) == len(documents)
    masks = Counter(marks.tobytes() for _, marks in judge.shown)
    assert all(count % 3 == 0 for count in masks.values())


def test_the_judge_sees_neither_activations_nor_the_sets_order() -> None:
    test = spread()
    score, judge = fuzz(test)
    assert all(np.isnan(example.activations).all() for example, _ in judge.shown)
    again, same = fuzz(test)
    assert again == score
    assert [e.document for e, _ in same.shown] == [e.document for e, _ in judge.shown]
    _, other = fuzz(test, seed=1)
    assert [e.document for e, _ in other.shown] != [e.document for e, _ in judge.shown]


def test_failures_are_kept_and_count_as_wrong() -> None:
    test = spread()
    right = truthful(test)

    def answer(example: Example, marks: Marks) -> Answer:
        return NoVerdict("cut off") if example.document % 10 == 0 else right(example, marks)

    score, _ = fuzz(test, answer)
    failed = [o for o in score.outcomes if isinstance(o, Failure)]
    assert len(score.outcomes) == 60
    assert failed
    assert score.metrics["failures"].value == len(failed)
    assert score.metrics["balanced_accuracy"].value < 1.0
    assert score.metrics["best_case"].value == 1.0
    lost, _ = fuzz(test, lambda *_: NoVerdict("no connection"))
    assert (lost.status, lost.reason) == ("failed", "no item was judged: no connection")


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (replace(spread(), shortage="6 active windows"), "6 active windows"),
        (spread(active=19), "9 pairs of 19 active windows can share marks, 10 are needed"),
        (labelled_set([("activating", at(*range(8)))] * 40), "0 pairs of 40 active windows"),
        (spread(active=0), "0 pairs of 0"),
    ],
)
def test_without_ten_donors_nothing_is_asked_and_it_is_said_why(
    test: LabelledSet, reason: str
) -> None:
    score, judge = fuzz(test)
    assert score.status == "too_few_examples"
    assert reason in str(score.reason)
    assert not judge.shown
    assert not score.metrics


def test_too_few_silent_windows_leave_the_headline() -> None:
    score, _ = fuzz(spread(random=9))
    assert score.status == "scored"
    assert "random" not in score.metrics
    assert score.details["unavailable"] == {"random": "9 windows"}


levels = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.1, 1.0, 2.0]), min_size=8, max_size=8)


@given(st.lists(levels.filter(any), min_size=20, max_size=30), st.integers(0, 3))
@settings(max_examples=60)
def test_whatever_the_activations_counts_and_places_are_the_same(
    rows: list[list[float]], seed: int
) -> None:
    test = labelled_set([*(("activating", row) for row in rows), *[("random", at())] * 12])
    score, judge = fuzz(test, seed=seed)
    if score.status != "scored":
        assert "pairs" in str(score.reason)
        return
    activations = {i.example.document: i.example.activations for i in test.items}
    own, lent = Counter[bytes](), Counter[bytes]()
    for example, marks in judge.shown:
        values = activations[example.document]
        if not values.any():
            continue
        (own if values[marks].any() else lent)[marks.tobytes()] += 1
        assert values[marks].all() or not values[marks].any()
    assert own == lent


# The pattern judge


def banks(i: int) -> Sequence[int]:
    """``river bank`` where the latent is active, among other words."""
    row = [i % 50, (i * 7 + 1) % 50, THE, (i * 3) % 50, THE, (i * 11) % 50, THE, i % 50]
    place = 1 + i % 5
    if i < 40:
        row[place - 1 : place + 1] = [RIVER, BANK]
    return row


def river_banks() -> LabelledSet:
    rows: list[tuple[Source, Sequence[float]]] = [("activating", at(1 + i % 5)) for i in range(40)]
    return labelled_set([*rows, *[("random", at())] * 20], banks)


def by_pattern(text: str, control: str = "") -> Score:
    scorer = FuzzingScorer(judge=PatternJudge())
    asked = scorer.controls[control] if control else scorer
    explanation = Explanation(LATENT, text, "by hand")
    return asyncio.run(asked.score(explanation, with_test(LATENT, river_banks())))


@pytest.mark.parametrize(
    ("text", "recall", "specificity"),
    [
        ('"bank" after "river"', 1.0, 1.0),
        ('"river"', 0.0, 1.0),
        ("nothing", 0.0, 1.0),
        ('"bank", "river", "the"', 1.0, None),
    ],
)
def test_a_pattern_is_asked_at_the_marks_alone(
    text: str, recall: float, specificity: float | None
) -> None:
    metrics = by_pattern(text).metrics
    assert metrics["recall"].value == recall
    if specificity is not None:
        assert metrics["specificity_donor"].value == specificity
        assert metrics["specificity_random"].value == specificity
    else:
        assert metrics["specificity_donor"].value < 1


@pytest.mark.parametrize(("marked", "label"), [((0,), True), ((0, 3), False), ((0, 1, 3), True)])
def test_a_pattern_must_match_at_most_marks(marked: tuple[int, ...], label: bool) -> None:
    example = labelled_set([("activating", at(0))], lambda _: [BANK, BANK, *[THE] * 6]).items[0]
    marks = np.isin(np.arange(WINDOW), marked)
    found = PatternJudge().fuzz('"bank"', [example.example], [marks], latent=LATENT)
    assert asyncio.run(found) == [Verdict(label)]


def test_the_control_shows_the_marked_tokens_alone() -> None:
    """Without ``river`` before it a bank is not the latent's; any bank is."""
    assert by_pattern('"bank" after "river"', "marked_only").metrics["recall"].value == 0
    assert by_pattern('"bank"', "marked_only").metrics["recall"].value == 1
    judge = ScriptedJudge(yes)
    control = FuzzingScorer(judge=judge).controls["marked_only"]
    score = asyncio.run(
        control.score(Explanation(LATENT, "x", "by hand"), with_test(LATENT, spread()))
    )
    assert len(score.outcomes) == 60
    for example, marks in judge.shown:
        assert marks.all()
        assert len(example.tokens) == len(marks) <= 2
        assert not example.left_context
