"""Two runs set side by side: paired by latent, by item, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autointerp.latents import (
    AutointerpError,
    Failure,
    Label,
    LatentId,
    Metric,
    Number,
    Outcome,
    Score,
)
from autointerp.pipeline.compare import compare
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored

ABOUT = {"subject.model": "m", "checkpoints.a": "1", "run.seed": 0}


def answers(right: Sequence[bool]) -> list[Outcome]:
    """Half active and half random windows, judged rightly or not."""
    truths = [i % 2 == 0 for i in range(len(right))]
    return [
        Label(truth, truth == ok, None, "activating" if truth else "random", None)
        for truth, ok in zip(truths, right, strict=True)
    ]


def score(index: int, right: Sequence[bool], explainer: str = "x") -> Score:
    return Score(
        latent=LatentId("a", index),
        explanation=f"a/{index}:input:{explainer}",
        scorer="detection",
        judge="pattern",
        headline="balanced_accuracy",
        chance=0.5,
        metrics={"balanced_accuracy": Metric(float(np.mean(right)), n=len(right))},
        outcomes=answers(right),
    )


def run(
    folder: Path,
    name: str,
    right: Callable[[int], Sequence[bool]],
    latents: Sequence[int] = range(20),
    about: dict[str, Any] = ABOUT,
    **changes: Any,
) -> Path:
    path = folder / name
    path.mkdir()
    with Results.open(path / "results.sqlite") as results:
        results.hold_settings(about)
        for index in latents:
            made = replace(score(index, right(index)), **changes)
            results.put_scores([Scored(made), Scored(made, "shuffled")])
    return path


def even(index: int) -> list[bool]:
    return [i % 10 < 7 for i in range(40)]


def better(index: int) -> list[bool]:
    """Right where ``even`` is, and in one item more of ten."""
    return [i % 10 < 8 for i in range(40)]


def test_differences_are_paired_by_latent_and_by_item(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", even), run(tmp_path, "b", better, range(1, 22))
    document = compare(a, b)
    assert document["paired"]
    found = document["scores"]["detection"]
    assert (found["n"], found["only_in_a"], found["only_in_b"]) == (19, 1, 2)
    assert (found["a"], found["b"]) == (pytest.approx(0.7), pytest.approx(0.8))
    for name in ("mean", "low", "high"):
        assert found["difference"][name] == pytest.approx(0.1)
    assert (found["better_in_a"], found["better_in_b"]) == (0, 19)
    items = found["items"]
    assert (items["n"], items["right_only_in_a"], items["right_only_in_b"]) == (760, 0, 76)
    assert items["difference"]["mean"] == pytest.approx(0.1)


def test_pairing_makes_the_interval_narrow(tmp_path: Path) -> None:
    """Latents differ much, runs little: unpaired, the difference drowns."""
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.5, 0.9, size=20).tolist()

    def worse(index: int) -> list[bool]:
        return [i < rates[index] * 100 for i in range(100)]

    def slightly_better(index: int) -> list[bool]:
        return [i < rates[index] * 100 + 3 for i in range(100)]

    a, b = run(tmp_path, "a", worse), run(tmp_path, "b", slightly_better)
    other = run(tmp_path, "c", slightly_better, about={**ABOUT, "checkpoints.a": "2"})
    paired, unpaired = compare(a, b), compare(a, other)
    assert paired["paired"]
    assert not unpaired["paired"]
    near, far = (d["scores"]["detection"]["difference"] for d in (paired, unpaired))
    assert near["low"] > 0 > far["low"]
    assert near["mean"] == pytest.approx(far["mean"])
    assert unpaired["scores"]["detection"]["items"] is None


def test_reruns_agree_as_far_as_scores_are_the_latents_own(tmp_path: Path) -> None:
    """Where latents vary by s² and reruns by e², s² / (s² + e²) is the latents' own."""
    rng = np.random.default_rng(1)
    own = rng.normal(0.7, 0.1, 100)
    hits = [np.round((own + rng.normal(0, 0.05, 100)) * 200) for _ in range(2)]

    def of(rerun: int) -> Callable[[int], list[bool]]:
        return lambda index: [i < int(hits[rerun][index]) for i in range(200)]

    a, b = run(tmp_path, "a", of(0), range(100)), run(tmp_path, "b", of(1), range(100))
    found = compare(a, b)["scores"]["detection"]
    assert found["icc"] == pytest.approx(0.8, abs=0.1)
    low, high = found["icc_interval"]
    assert low < 0.8 < high < low + 0.2
    assert compare(a, a)["scores"]["detection"]["icc"] == pytest.approx(1)


def test_failures_are_wrong_and_other_windows_are_not_paired(tmp_path: Path) -> None:
    failing = [*answers([True] * 9), Failure("cut", "random")]
    a = run(tmp_path, "a", lambda _: [True] * 10)
    b = run(tmp_path, "b", lambda _: [True] * 10, outcomes=failing)
    items = compare(a, b)["scores"]["detection"]["items"]
    assert items["right_only_in_a"] == 20
    c = run(tmp_path, "c", lambda _: [True] * 12)
    assert compare(a, c)["scores"]["detection"]["items"] is None


def test_failures_beside_numbers_are_no_answers(tmp_path: Path) -> None:
    """Where nothing is right or wrong, failures are not wrong either."""
    numbers: list[Outcome] = [Number(float(i), "near_miss") for i in range(6)]
    failing: list[Outcome] = [
        Failure("cut", "near_miss") if i < 2 else numbers[i] for i in range(6)
    ]
    a = run(tmp_path, "a", even, outcomes=failing)
    b = run(tmp_path, "b", even, outcomes=[*failing[:1], *numbers[1:]])
    found = compare(a, b)["scores"]["detection"]
    assert found["n"] == 20
    assert found["items"] is None


def test_other_metrics_and_other_scorers_do_not_compare(tmp_path: Path) -> None:
    a = run(tmp_path, "a", even)
    other = {"mixed": Metric(0.6, n=40)}
    b = run(tmp_path, "b", even, headline="mixed", metrics=other)
    assert compare(a, b)["scores"]["detection"]["difference"] is None
    c = run(tmp_path, "c", even, scorer="fuzzing")
    with pytest.raises(AutointerpError, match="have not both the scorer"):
        compare(a, c)
    with pytest.raises(AutointerpError, match=r"fuzzing \(in common: detection\)"):
        compare(a, b, scorer="fuzzing")


def test_runs_without_scores_or_of_several_explainers_are_refused(tmp_path: Path) -> None:
    a = run(tmp_path, "a", even)
    empty = run(tmp_path, "empty", even, latents=[])
    with pytest.raises(AutointerpError, match="has no scores yet"):
        compare(a, empty)
    with Results.open(a / "results.sqlite") as results:
        results.put_scores([Scored(score(3, even(3), "y"))])
    with pytest.raises(AutointerpError, match="has scores of x, y"):
        compare(a, a)


@pytest.mark.parametrize("setting", ["corpus.tokens", "examples.window", "run.seed"])
def test_items_of_other_windows_are_not_paired(tmp_path: Path, setting: str) -> None:
    about = ABOUT | {"corpus.tokens": 1, "examples.window": 32}
    a = run(tmp_path, "a", even, about=about)
    b = run(tmp_path, "b", better, about=about | {setting: 7})
    found = compare(a, b)["scores"]["detection"]
    assert found["n"] == 20
    assert found["items"] is None


def test_of_several_explainers_the_runs_own_counts(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", even), run(tmp_path, "b", better)
    with Results.open(a / "results.sqlite") as results:
        results.put_scores([Scored(score(0, better(0), "imported"))])
        results.note("explainer", "x")
    document = compare(a, b)
    assert document["explainer_a"] == "x"
    assert document["scores"]["detection"]["a"] == pytest.approx(0.7)
