"""The other latents of a run: who is near, who is apart, and which windows are theirs alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_coders import SAELENS, Planted
from planted_others import FakeClient, PlantedStore, build

from autointerp.config import build_config
from autointerp.examples.activity import Question, activity
from autointerp.examples.draws import addresses
from autointerp.latents import Item, LatentId
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates
from autointerp.pipeline.baselines import nearest_by
from autointerp.pipeline.others import OtherLatents
from autointerp.pipeline.tools import Tools
from autointerp.scorers import Neighbourhood, Other


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("others"))


def codes(items: Sequence[Item]) -> NDArray[np.int64]:
    places = [(item.example.document, item.example.start) for item in items]
    return addresses(*np.array(places, np.int64).reshape(-1, 2).T)


def truly_active(world: PlantedStore, latent: LatentId, items: Sequence[Item]) -> int:
    """In how many of the windows the subject shows the latent to be active."""
    question = Question((latent,), tuple(codes(items).tolist()))
    return int(np.count_nonzero(activity(world.store, world.subject, world.attached, [question])))


def owners(found: Sequence[Other]) -> list[LatentId]:
    return [other.explanation.latent for other in found]


def nearest(world: PlantedStore, index: int, count: int = 4, windows: int = 20) -> Neighbourhood:
    return asyncio.run(world.others().nearest(LatentId(SAELENS, index), count, windows))


def apart(world: PlantedStore, index: int, seed: int = 0) -> list[Other]:
    return asyncio.run(world.others(seed).apart(LatentId(SAELENS, index), 5, 20))


def test_the_nearest_are_those_of_the_nearest_decoder_directions(world: PlantedStore) -> None:
    directions = torch.nn.functional.normalize(world.coder.decoder_directions().float(), dim=1)
    members = [latent.index for latent in world.latents]
    near = nearest_by({SAELENS: world.coder}, {SAELENS: np.array(members)})
    for index in members[::5]:
        found = near(LatentId(SAELENS, index))
        cosines = (directions[[i.index for i in found]] @ directions[index]).tolist()
        assert cosines == pytest.approx(sorted(cosines, reverse=True), abs=2e-4)
        best = max(i for i in (directions[m] @ directions[index] for m in members if m != index))
        assert cosines[0] == pytest.approx(float(best), abs=2e-4)
        assert LatentId(SAELENS, index) not in found
    assert owners(nearest(world, members[0], 3).others) == near(LatentId(SAELENS, members[0]))[:3]


def test_exactly_one_of_the_neighbours_is_active_in_each_window(world: PlantedStore) -> None:
    for latent in world.latents[::4]:
        mine, found = LatentId(SAELENS, latent.index), nearest(world, latent.index)
        assert len(found.others) == 4
        parts = {other.explanation.latent: other.windows for other in found.others}
        parts[mine] = found.own
        for owner, items in parts.items():
            assert all(item.truth and item.example.owner == owner for item in items)
            for other in parts:
                assert truly_active(world, other, items) == (len(items) if other == owner else 0)


def test_as_many_windows_are_read_as_are_wanted_and_some(world: PlantedStore) -> None:
    latent = world.latents[0].index
    world.asked.clear()
    found = nearest(world, latent, windows=8)
    (question,) = world.asked
    assert len(question.latents) == 5
    assert 2 * 8 <= len(question.windows) <= 2 * 8 * 1.5 + 4
    assert 8 <= len(found.own) <= 12
    assert 8 <= sum(len(other.windows) for other in found.others) <= 16


def test_those_apart_are_random_and_the_latent_is_inactive_in_their_windows(
    world: PlantedStore,
) -> None:
    for latent in world.latents[::4]:
        mine, found = LatentId(SAELENS, latent.index), apart(world, latent.index)
        assert len(set(owners(found))) == 5
        assert mine not in owners(found)
        for other in found:
            assert other.windows
            assert truly_active(world, mine, other.windows) == 0
            assert truly_active(world, other.explanation.latent, other.windows) == len(
                other.windows
            )
    assert owners(apart(world, latent.index)) == owners(found)
    assert owners(apart(world, latent.index, seed=1)) != owners(found)


def test_a_latent_with_no_other_explained_has_nothing_read(world: PlantedStore) -> None:
    mine = LatentId(SAELENS, world.latents[0].index)
    alone = {mine: world.explanation(world.latents[0])}
    others = OtherLatents(world.store, lambda: {SAELENS: world.coder}, alone, world, 0)
    world.asked.clear()
    assert asyncio.run(others.nearest(mine, 4, 20)).others == []
    assert asyncio.run(others.apart(mine, 4, 20)) == []
    assert not world.asked


def test_windows_are_built_once_and_memory_is_bounded(world: PlantedStore) -> None:
    others = world.others()
    latent = LatentId(SAELENS, world.latents[0].index)
    first, second = (asyncio.run(others.nearest(latent, 3, 20)).others for _ in range(2))
    for a, b in zip(first, second, strict=True):
        blocks = [[item.example.block for item in other.windows] for other in (a, b)]
        assert all(x is y for x, y in zip(*blocks, strict=True))
    assert others._windows.cache_info().maxsize == 256


def test_the_engine_supplies_them(world: PlantedStore) -> None:
    def answer(request: Request) -> Any:
        return None

    config = build_config(
        {
            "explainer": {"kind": "single_pass", "llm": "judge"},
            "scorers": [{"kind": "intruder"}, {"kind": "discrimination", "judge": "llm"}],
            "llms": {"judge": {"model": "fake", "base_url": "http://127.0.0.1:1/v1"}},
        }
    )
    tools = Tools(config, {"judge": FakeClient(answer)}, Templates(), others=world.others())
    built = {named.name: named for named in tools.scorers()}
    assert built["intruder"].scorer.reads is None
    assert built["discrimination"].judge == "llm"
