"""What a run tells beyond its means: lifts, spreads, shares, and how answers hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp.latents import Label, LatentId, Metric, Score, Source
from autointerp.pipeline.columns import Columns
from autointerp.pipeline.figures import (
    Dependence,
    dependence,
    effects,
    figures,
    note_effects,
)
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.widened import widened
from autointerp.scorers.labels import label_metrics
from autointerp.statistics import Interval, Tally, balanced_accuracy, wilson

ALONE = Dependence()


def score(
    index: int, value: float, n: int = 100, outcomes: Sequence[Label] = (), judge: str = "llm"
) -> Score:
    return Score(
        latent=LatentId("a", index),
        explanation=f"a/{index}:input:x",
        scorer="detection",
        judge=judge,
        headline="balanced_accuracy",
        chance=0.5,
        metrics={"balanced_accuracy": Metric(value, n=n)},
        outcomes=outcomes,
    )


def test_lifts_are_means_of_differences_within_latents() -> None:
    columns = Columns()
    for i in range(10):
        columns.add(Scored(score(i, 0.7 + 0.01 * i)))
        if i < 4:
            columns.add(Scored(score(i, 0.5 + 0.01 * i), "shuffled"))
        if i == 1:
            columns.add(Scored(replace(score(1, 0.0), status="failed"), "empty"))
    columns.add(Scored(score(11, 0.5), "shuffled"))  # its own explanation was not scored
    assert list(columns.lifts) == ["shuffled"]
    assert columns.lifts["shuffled"].numbers() == pytest.approx([0.2] * 4)
    assert len(columns.true) == 10
    assert columns.true.of(0) == pytest.approx(columns.true.numbers())


def gathered(scores: Sequence[Score]) -> Columns:
    columns = Columns()
    for one in scores:
        columns.add(Scored(one))
    return columns


def test_the_true_spread_is_less_than_the_observed_one() -> None:
    rng = np.random.default_rng(0)
    truth = rng.beta(40, 13, size=400)
    scored = [score(i, rng.binomial(100, p) / 100) for i, p in enumerate(truth)]
    found = figures(gathered(scored), ALONE)["true_values"]
    observed = np.std([s.metrics["balanced_accuracy"].value for s in scored])
    assert found["spread"] == pytest.approx(truth.std(), abs=0.01)
    assert found["spread"] < observed - 0.01
    assert found["quantiles"]["0.1"] == pytest.approx(np.quantile(truth, 0.1), abs=0.02)


def test_a_share_is_explained_only_on_evidence() -> None:
    """Estimates above .7 of latents at .6 are no explained latents."""
    rng = np.random.default_rng(1)
    good = [rng.multinomial(50, [0.0, 0.1, 0.9]).tolist() for _ in range(30)]
    bad = [rng.multinomial(50, [0.16, 0.48, 0.36]).tolist() for _ in range(70)]
    scored = [
        replace(score(i, 0.5), details={"pairs": pairs}) for i, pairs in enumerate(good + bad)
    ]
    found = figures(gathered(scored), ALONE)["share_explained"]
    assert found["n"] == 100
    assert found["share"] == pytest.approx(0.3, abs=0.02)
    assert (
        figures(gathered(scored), Dependence(0.5, 5, 3.0))["share_explained"]["share"]
        <= found["share"]
    )


def dependent_answers(rng: np.random.Generator, correlation: float) -> list[Label]:
    """Twenty requests of five; with this chance an item has the answer of its whole request."""
    found = []
    for number in range(20):
        together = bool(rng.random() < 0.75)
        for i in range(5):
            right = together if rng.random() < correlation**0.5 else bool(rng.random() < 0.75)
            truth = bool((number + i) % 2)
            source = "activating" if truth else "random"
            found.append(Label(truth, truth == right, None, source, None, f"{number:016x}"))
    return found


@pytest.mark.parametrize("correlation", [0.0, 0.3])
def test_the_correlation_within_requests_is_found(correlation: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    with Results.open(tmp_path / "r.sqlite") as results:
        for i in range(60):
            answers = dependent_answers(rng, correlation)
            results.put_scores([Scored(score(i, 0.75, outcomes=answers))])
        found = dependence(results, "detection", "x", 0)
        assert found.items == 5
        assert found.correlation == pytest.approx(correlation, abs=0.05)
        assert found.effect == pytest.approx(1 + 4 * max(0, found.correlation))
        note_effects(results, "x", 0)
        assert effects(results) == {"detection": found.effect}


def test_answers_about_another_explainers_texts_do_not_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    with Results.open(tmp_path / "r.sqlite") as results:
        for i in range(30):
            own = score(i, 0.75, outcomes=dependent_answers(rng, 0.0))
            results.put_scores([Scored(own)])
        before = dependence(results, "detection", "x", 0)
        for i in range(60):
            other = score(i, 0.75, outcomes=dependent_answers(rng, 1.0))
            results.put_scores([Scored(replace(other, explanation=f"a/{i}:input:y"))])
        assert dependence(results, "detection", "x", 0) == before
        assert dependence(results, "detection", "y", 0).correlation > 0.9
        note_effects(results, "x", 0)
        assert effects(results) == {"detection": before.effect}


def test_answers_without_requests_are_independent(tmp_path: Path) -> None:
    with Results.open(tmp_path / "r.sqlite") as results:
        answers = [Label(True, True, None, "activating")]
        results.put_scores([Scored(score(0, 0.75, outcomes=answers, judge="pattern"))])
        assert dependence(results, "detection", "x", 0) == ALONE
        assert effects(results) == {}


def test_widened_intervals_are_those_of_fewer_items() -> None:
    rng = np.random.default_rng(3)
    answers = [
        Label(source == "activating", bool(rng.random() < 0.6), None, source, i % 10)
        for source in ("activating", "random", "token", "neighbour")
        for i in range(40)
    ]
    metrics = label_metrics(answers)
    expected = fewer_items(answers, 1.8)
    found = widened(metrics, 1.8)
    assert found.keys() == metrics.keys()
    assert {name for name, metric in metrics.items() if metric.low is not None} == expected.keys()
    for name, metric in metrics.items():
        assert found[name].value == pytest.approx(metric.value)
        if name not in expected:
            assert found[name] == metric
            continue
        assert found[name].low == pytest.approx(expected[name].low), name
        assert found[name].high == pytest.approx(expected[name].high), name
    assert widened(metrics, 1.0) == metrics


def fewer_items(answers: Sequence[Label], effect: float) -> dict[str, Interval]:
    """The intervals of every metric that has one, on so many times fewer items."""

    def tally(source: Source, decile: int | None = None) -> Tally:
        mine = [a for a in answers if a.source == source and decile in (None, a.decile)]
        return Tally(len(mine), sum(a.label == a.truth for a in mine))

    hard: tuple[Source, ...] = ("token", "neighbour")
    rates = {"recall": tally("activating")}
    rates |= {f"recall_decile_{d}": tally("activating", d) for d in range(10)}
    rates |= {f"specificity_{source}": tally(source) for source in ("random", *hard)}
    against = {"balanced_accuracy": [tally("random")], "hard": [tally(source) for source in hard]}
    against |= {source: [tally(source)] for source in hard}
    return {name: wilson(of, design_effect=effect) for name, of in rates.items()} | {
        name: balanced_accuracy(rates["recall"], *of, design_effect=effect)
        for name, of in against.items()
    }
