"""The intruder scorer on latents whose rules are known, with a model that knows them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from golden import check_golden
from planted import PlantedLatent
from planted_coders import Planted
from planted_others import FakeClient, PlantedStore, build

from autointerp.config import build_config
from autointerp.judges.windows import quoted
from autointerp.latents import AutointerpError, Choice, Failure, Score
from autointerp.llm.client import BudgetExhausted, Request
from autointerp.llm.templates import Templates
from autointerp.registry import scorers
from autointerp.scorers.intruder import IntruderOptions, IntruderScorer

_TEXT = re.compile(r'^\d+\. (\[".*"\])$', re.MULTILINE)
_MARKED = re.compile(r"«([^»]*)»")


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("intruder"))


def marked_words(request: Request) -> list[list[str]]:
    """The marked words of each text of a question."""
    lines = _TEXT.findall(request.messages[-1].content)
    return [" ".join(_MARKED.findall(json.loads(line)[1])).split() for line in lines]


def knowing(latent: PlantedLatent) -> Callable[[Request], Any]:
    """Picks the text with the fewest marked words that drive the latent."""

    def answer(request: Request) -> Any:
        texts = marked_words(request)
        known = [np.mean([word in latent.rule.strengths for word in words]) for words in texts]
        return {"intruder": int(np.argmin(known)) + 1}

    return answer


def score(
    world: PlantedStore, latent: PlantedLatent, client: FakeClient, seed: int = 0, **options: Any
) -> Score:
    scorer = IntruderScorer(
        IntruderOptions(**options),
        seed,
        client=client,
        templates=Templates(),
        others=world.others(),
    )
    return asyncio.run(scorer.score(world.explanation(latent, "anything"), world.materials(latent)))


def test_latents_of_one_meaning_are_told_from_others(world: PlantedStore) -> None:
    for latent in world.truth.family("token_set", "single", "either_or")[::6]:
        client = FakeClient(knowing(latent))
        found = score(world, latent, client)
        assert found.status == "scored"
        assert found.headline == "accuracy"
        assert found.chance == pytest.approx(0.2)
        assert found.metrics["accuracy"].value >= 0.95
        assert found.metrics["accuracy"].n == len(client.requests) == len(found.outcomes)
        assert 5 <= len(found.outcomes) <= 20
        assert len({o.request for o in found.outcomes if isinstance(o, Choice)}) == len(
            found.outcomes
        )


def test_neither_place_nor_number_of_marks_tells_the_intruder(world: PlantedStore) -> None:
    places, counts = [], []
    for latent in world.latents[::3]:
        client = FakeClient(lambda request: {"intruder": 1})
        found = score(world, latent, client)
        places += [o.truth for o in found.outcomes if isinstance(o, Choice)]
        counts += [[len(words) for words in marked_words(r)] for r in client.requests]
    assert all(len(set(row)) == 1 for row in counts)
    assert np.bincount(places, minlength=5) / len(places) == pytest.approx([0.2] * 5, abs=0.07)


def test_four_windows_are_of_one_decile_and_none_comes_twice(world: PlantedStore) -> None:
    latent = world.latents[0]
    client = FakeClient(knowing(latent))
    found = score(world, latent, client)
    texts = [t for r in client.requests for t in _TEXT.findall(r.messages[-1].content)]
    materials = world.materials(latent)
    assert materials.active is not None
    block = materials.active()
    ranks = np.argsort(np.argsort(block.maxima, kind="stable"))
    tenths = (ranks * 10 // len(ranks)).tolist()
    texts_of = [quoted(" ".join(example.tokens)) for example in block.examples()]
    own = dict(zip(texts_of, tenths, strict=True))
    seen = [quoted(re.sub("[«»]", "", json.loads(t)[1])) for t in texts]
    assert len(set(texts)) == len(texts)
    for i, outcome in enumerate(found.outcomes):
        deciles = [own[s] for s in seen[5 * i : 5 * i + 5] if s in own]
        assert len(deciles) == 4
        assert set(np.abs(np.array(deciles) - outcome.decile)) <= {0, 1}


def test_failures_stay_and_the_seed_decides(world: PlantedStore) -> None:
    latent = world.latents[0]
    client = FakeClient(lambda r: None if len(client.requests) == 3 else {"intruder": 1})
    found = score(world, latent, client)
    assert sum(isinstance(o, Failure) for o in found.outcomes) == 1
    assert found.metrics["failures"].value == 1
    right, n = found.metrics["accuracy"].value, len(found.outcomes)
    assert found.metrics["worst_case"].value == right
    assert found.metrics["best_case"].value == pytest.approx(right + 1 / n)
    again = score(world, latent, FakeClient(knowing(latent)))
    same = score(world, latent, FakeClient(knowing(latent)))
    other = score(world, latent, FakeClient(knowing(latent)), seed=1)
    assert again == same
    assert again.outcomes != other.outcomes


def test_a_spent_budget_stops_the_run(world: PlantedStore) -> None:
    def answer(request: Request) -> Any:
        raise BudgetExhausted("spent")

    with pytest.raises(BudgetExhausted):
        score(world, world.latents[0], FakeClient(answer))


def test_too_few_windows_cost_nothing(world: PlantedStore) -> None:
    dead = next(latent for latent in world.truth.latents if latent.family == "dead")
    client = FakeClient(lambda request: {"intruder": 1})
    found = score(world, dead, client)
    assert found.status == "too_few_examples"
    assert found.reason
    assert not client.requests


def test_it_is_for_language_models_and_says_so() -> None:
    assert scorers.get("intruder").implementation.reads is None
    with pytest.raises(AutointerpError, match=r"scorers\.0 needs a language model"):
        build_config({"scorers": [{"kind": "intruder"}]})


def test_golden(world: PlantedStore) -> None:
    client = FakeClient(lambda request: {"intruder": 1})
    score(world, world.latents[0], client, questions=5)
    check_golden("judge/intruder", client.requests[0].messages)
