"""Telling a latent's windows from its neighbours', with the pattern judge and with a model."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from planted import PlantedLatent
from planted_coders import Planted
from planted_others import FakeClient, PlantedStore, build

from autointerp.judges import Chooser
from autointerp.judges.llm import LLMJudge, LLMJudgeOptions
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import AutointerpError, Choice, Failure, Score
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates
from autointerp.patterns import matches, parse
from autointerp.scorers.discrimination import DiscriminationScorer

_TEXT = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)
_OPTION = re.compile(r"^\d+\. ([^\[].*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("discrimination"))


def score(
    world: PlantedStore,
    latent: PlantedLatent,
    judge: Chooser | None = None,
    text: str | None = None,
    seed: int = 0,
) -> Score:
    chooser = judge or PatternJudge()
    scorer = DiscriminationScorer(seed=seed, judge=chooser, others=world.others())
    return asyncio.run(scorer.score(world.explanation(latent, text), world.materials(latent)))


def reading(request: Request) -> Any:
    """Chooses the pattern that matches; of several the first."""
    asked = request.messages[-1].content
    patterns = [parse(text) for text in _OPTION.findall(asked)]
    choices = []
    for before, text in map(json.loads, _TEXT.findall(asked)):
        left, words = before.split(), text.split()
        hits = [any(matches(p, words, left)) for p in patterns]
        choices.append((hits.index(True) if any(hits) else 0) + 1)
    return {"choices": choices}


def llm(client: FakeClient) -> LLMJudge:
    return LLMJudge(LLMJudgeOptions(), client=client, templates=Templates())


def test_true_explanations_tell_a_latent_from_its_neighbours(world: PlantedStore) -> None:
    found = [score(world, latent) for latent in world.latents]
    assert {s.status for s in found} == {"scored"}
    values = [s.metrics[s.headline].value for s in found]
    assert np.mean(values) >= 0.9
    assert {s.chance for s in found} == {0.5}
    assert all(o.options == 5 for s in found for o in s.outcomes if isinstance(o, Choice))


def test_another_latents_text_does_badly(world: PlantedStore) -> None:
    members = world.latents
    donors = [members[(i + len(members) // 2) % len(members)] for i in range(len(members))]
    found = [score(world, a, text=b.pattern) for a, b in zip(members, donors, strict=True)]
    assert 0.45 <= np.mean([s.metrics["told_apart"].value for s in found]) <= 0.65


def test_the_neighbours_own_label_is_no_better_than_chance(world: PlantedStore) -> None:
    """Detection passes a label that both share; here it says nothing."""
    values = []
    for latent in world.truth.family("previous"):
        sibling = world.truth.latents[world.truth.sibling(latent.index)]
        shared = score(world, latent, text=sibling.pattern)
        values.append(shared.metrics["told_apart"].value)
        assert score(world, latent).metrics["told_apart"].value >= 0.9
    assert np.mean(values) <= 0.6


def test_half_of_the_windows_are_the_latents_and_none_is_both(world: PlantedStore) -> None:
    for latent in world.latents[::7]:
        found = score(world, latent)
        own = found.details["own"]
        mine = [o for o in found.outcomes if o.source == "activating"]
        theirs = [o for o in found.outcomes if o.source == "neighbour"]
        assert 5 <= len(mine) == len(theirs) <= 20
        assert all(isinstance(o, Choice) and o.truth == own for o in mine)
        assert all(isinstance(o, Choice) and o.truth != own for o in theirs)
        assert found.details["options"][own] == str(found.latent)


def test_a_language_model_answers_in_few_requests(world: PlantedStore) -> None:
    latent = world.truth.family("token_set")[0]
    client = FakeClient(reading)
    found = score(world, latent, llm(client))
    assert found.judge == "llm"
    assert len(client.requests) == 8
    assert found.metrics["told_apart"].value >= 0.9
    assert len({o.request for o in found.outcomes if isinstance(o, Choice)}) == 8


def test_failures_are_wrong_and_stay(world: PlantedStore) -> None:
    latent = world.truth.family("token_set")[0]
    client = FakeClient(lambda r: None if len(client.requests) == 2 else reading(r))
    found = score(world, latent, llm(client))
    assert sum(isinstance(o, Failure) for o in found.outcomes) == 5
    assert found.metrics["failures"].value == 5
    assert found.metrics["told_apart"].value <= 0.9
    assert found.metrics["worst_case"].value == found.metrics["told_apart"].value
    each = [sum(o.source == s for o in found.outcomes) for s in ("activating", "neighbour")]
    lost = [
        sum(isinstance(o, Failure) and o.source == s for o in found.outcomes)
        for s in ("activating", "neighbour")
    ]
    gained = (lost[0] / each[0] + lost[1] / each[1]) / 2
    best = found.metrics["best_case"].value
    assert best == pytest.approx(found.metrics["told_apart"].value + gained)
    failed = score(world, latent, llm(FakeClient(lambda r: None)))
    assert failed.status == "failed"


def test_the_seed_alone_decides(world: PlantedStore) -> None:
    latent = world.latents[3]
    assert score(world, latent) == score(world, latent)
    seen = {tuple(score(world, latent, seed=s).details["options"]) for s in range(4)}
    assert len(seen) > 1


def test_too_few_windows_cost_nothing(world: PlantedStore) -> None:
    dead = next(latent for latent in world.truth.latents if latent.family == "dead")
    client = FakeClient(reading)
    found = score(world, dead, llm(client))
    assert found.status == "too_few_examples"
    assert not client.requests


def test_a_judge_that_cannot_choose_is_refused(world: PlantedStore) -> None:
    class Mute:
        name = "mute"

    with pytest.raises(AutointerpError, match="use pattern or llm"):
        DiscriminationScorer(judge=Mute(), others=world.others())  # type: ignore[arg-type]


def test_golden(world: PlantedStore) -> None:
    client = FakeClient(reading)
    score(world, world.truth.family("token_set")[0], llm(client))
    check_golden("judge/discrimination", client.requests[0].messages)
