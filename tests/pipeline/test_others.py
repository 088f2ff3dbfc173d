"""The other latents of a run: who is near, who is apart, and which windows are theirs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from planted_coders import SAELENS, Planted
from planted_others import FakeClient, PlantedStore, build

from autointerp.config import build_config
from autointerp.latents import LatentId
from autointerp.llm.client import Request
from autointerp.llm.templates import Templates
from autointerp.pipeline.baselines import nearest_by
from autointerp.pipeline.tools import Tools
from autointerp.scorers import Other


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("others"))


def places(other: Other) -> set[tuple[int, int]]:
    return {(item.example.document, item.example.start) for item in other.windows}


def active(world: PlantedStore, latent: LatentId) -> set[tuple[int, int]]:
    windows = world.store.windows(latent, "test", "sampled")
    return set(zip(windows.documents.tolist(), windows.starts.tolist(), strict=True))


def owners(found: Sequence[Other]) -> list[LatentId]:
    return [other.explanation.latent for other in found]


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
    assert (
        owners(world.others().nearest(LatentId(SAELENS, members[0]), 3))
        == near(LatentId(SAELENS, members[0]))[:3]
    )


def test_a_neighbours_windows_are_its_alone(world: PlantedStore) -> None:
    latent = LatentId(SAELENS, world.latents[0].index)
    found = world.others().nearest(latent, 4)
    assert len(found) == 4
    for other in found:
        assert places(other)
        for foreign in [latent, *(i for i in owners(found) if i != other.explanation.latent)]:
            assert not places(other) & active(world, foreign)
        assert all(item.truth and item.example.activations.any() for item in other.windows)


def test_those_apart_are_random_and_their_windows_not_the_latents(world: PlantedStore) -> None:
    latent = LatentId(SAELENS, world.latents[0].index)
    found = world.others().apart(latent, 5)
    assert len(set(owners(found))) == 5
    assert latent not in owners(found)
    assert owners(found) == owners(world.others().apart(latent, 5))
    assert owners(found) != owners(world.others(seed=1).apart(latent, 5))
    for other in found:
        assert places(other)
        assert not places(other) & active(world, latent)


def test_windows_are_built_once_and_memory_is_bounded(world: PlantedStore) -> None:
    others = world.others()
    latent = LatentId(SAELENS, world.latents[0].index)
    first, second = others.nearest(latent, 3), others.nearest(latent, 3)
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
