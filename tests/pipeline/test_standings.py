"""Who is escalated and which tier is published, from the values on SELECT alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from given_sets import with_test
from hypothesis import given
from hypothesis import strategies as st

from autointerp.judges.pattern import PatternJudge
from autointerp.latents import (
    Cost,
    ExampleBlock,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
    Metric,
    Score,
    Source,
    Status,
)
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.standings import (
    STOPPED,
    SelectScorer,
    Standing,
    escalated,
    report,
    select_value,
)

TIERS = ("cheap", "dear", "dearest")
LATENT = LatentId("a", 0)
COST = Cost(requests=1, prompt_tokens=10, completion_tokens=2, dollars=0.5, seconds=2.0)


def explained(tier: str, latent: LatentId = LATENT, status: Status = "explained") -> Explanation:
    return Explanation(latent, "text", tier, status=status, cost=COST)


def scored(
    tier: str,
    value: float,
    latent: LatentId = LATENT,
    status: Literal["scored", "failed", "too_few_examples"] = "scored",
) -> Score:
    metrics = {"balanced_accuracy": Metric(value)} if status == "scored" else {}
    name = explained(tier, latent).id
    return Score(
        latent, name, "select", "pattern", "balanced_accuracy", 0.5, metrics, (), status, cost=COST
    )


def standing(*values: float | None) -> Standing:
    tiers = dict(zip(TIERS, values, strict=False))
    return Standing(
        {tier: explained(tier) for tier in tiers},
        {tier: scored(tier, value) for tier, value in tiers.items() if value is not None},
    )


@given(st.lists(st.integers(0, 100), min_size=1, max_size=3))
def test_the_earliest_within_the_margin_is_published(hundredths: list[int]) -> None:
    found = standing(*(value / 100 for value in hundredths))
    near = [value >= max(hundredths) - 2 for value in hundredths]
    assert found.chosen() == TIERS[near.index(True)]


def test_without_values_what_explained_is_published() -> None:
    assert standing(None, None).chosen() == "cheap"
    failed = {"cheap": explained("cheap", status="failed"), "dear": explained("dear")}
    assert Standing(failed).chosen() == "dear"
    few = {**failed, "dear": explained("dear", status="too_few_examples")}
    assert Standing(few).chosen() == "dear"


def test_hard_negatives_weigh_as_much_as_random_ones() -> None:
    score = scored("cheap", 0.9)
    assert select_value(score) == 0.9
    both = {**score.metrics, "hard": Metric(0.6), "token": Metric(0.1)}
    assert select_value(replace(score, metrics=both)) == 0.75


def test_the_lowest_are_escalated_first_and_what_cannot_be_judged_never() -> None:
    latents = [LatentId("a", i) for i in range(6)]
    short = Standing({"cheap": explained("cheap")}, {})
    short.scores["cheap"] = scored("cheap", 0.0, status="too_few_examples")
    failed = Standing({"cheap": explained("cheap", status="failed")})
    dead = Standing({"cheap": explained("cheap", status="dead")})
    states = [standing(0.7), standing(0.8), standing(0.4), short, failed, dead]
    found = dict(zip(latents, states, strict=True))
    assert escalated(found, ["cheap"], 0.8) == [latents[2], latents[4], latents[0]]
    assert escalated(found, [], 0.8) == []


def test_the_best_so_far_decides_not_the_last() -> None:
    found = {LATENT: standing(0.81, 0.4)}
    assert escalated(found, ["cheap", "dear"], 0.8) == []
    assert escalated(found, ["cheap", "dear"], 0.9) == [LATENT]


def test_the_report_tells_costs_and_gains(tmp_path: Path) -> None:
    one, two, three = (LatentId("a", i) for i in range(3))
    with Results.open(tmp_path / "results.sqlite") as results:
        held = {"tiers": ["cheap", "dear"], "escalate_below": 0.8}
        results.hold_settings({f"explainer.cascade.{k}": v for k, v in held.items()})
        for latent, value in ((one, 0.9), (two, 0.6), (three, 0.5)):
            results.put_explanation(explained("cheap", latent))
            results.put_scores([Scored(scored("cheap", value, latent))])
        results.put_explanation(explained("dear", three))
        results.put_scores([Scored(scored("dear", 0.8, three))])
        results.note(STOPPED, "the money is gone")
        told = report(results)
    cheap, dear = told["tiers"]
    assert told["stopped"] == "the money is gone"
    assert (cheap["tried"], cheap["published"], cheap["waiting"]) == (3, 2, 0)
    assert (dear["tried"], dear["published"], dear["waiting"]) == (1, 1, 1)
    assert (cheap["before"], round(cheap["after"], 6)) == (None, round(2.0 / 3, 6))
    assert (dear["before"], dear["after"]) == (0.5, 0.8)
    assert (cheap["requests"], cheap["dollars"], cheap["seconds"]) == (6, 3.0, 12.0)
    assert (dear["requests"], dear["prompt_tokens"], dear["completion_tokens"]) == (2, 20, 4)


def test_scores_go_with_a_text_that_is_replaced(tmp_path: Path) -> None:
    with Results.open(tmp_path / "results.sqlite") as results:
        results.put_explanation(explained("cheap"))
        results.put_scores([Scored(scored("cheap", 0.9))])
        results.replace_explanation(explained("cheap"))
        assert len(list(results.scores())) == 1
        results.replace_explanation(Explanation(LATENT, "other", "dear"))
        assert len(list(results.scores())) == 1
        results.replace_explanation(Explanation(LATENT, "other", "cheap"))
        assert not list(results.scores())


@pytest.mark.parametrize(("windows", "active", "random", "hard"), [(None, 6, 3, 5), (2, 2, 2, 2)])
def test_as_many_windows_are_judged_as_asked_for(
    windows: int | None, active: int, random: int, hard: int
) -> None:
    sources: list[Source] = ["activating"] * 6
    sources += ["random"] * 3 + ["token"] * 2 + ["neighbour"] * 3
    ids = np.zeros((len(sources), 1), np.int32)
    at = np.arange(len(sources))
    block = ExampleBlock(LATENT, at, at, ids, ids.astype(np.float32), ids[:, :0], ["x"])
    rows = zip(block.examples(), sources, strict=True)
    items = [Item(example, source == "activating", source) for example, source in rows]
    select = LabelledSet(LATENT, "select", items, {}, None, 0)
    asked = replace(explained("cheap"), text='"x"')
    materials = with_test(LATENT, select)
    score = asyncio.run(SelectScorer(windows, 0, PatternJudge()).score(asked, materials))
    counts = Counter(outcome.source for outcome in score.outcomes)
    assert (counts["activating"], counts["random"]) == (active, random)
    assert counts["token"] + counts["neighbour"] == hard
    assert select_value(score) == 0.5  # it says yes to everything
