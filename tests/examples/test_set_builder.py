"""Sets are built a block at a time, for as many latents as are worked on, however many come."""

from __future__ import annotations

import pytest
from planted_coders import SAELENS, Planted
from planted_others import PlantedStore, build

from autointerp.examples.sampling import BLOCK, SetBuilder, evidence, labelled_set
from autointerp.latents import LatentId


@pytest.fixture(scope="module")
def world(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> PlantedStore:
    return build(planted, tmp_path_factory.mktemp("sets"))


def test_no_more_than_a_block_is_held(world: PlantedStore) -> None:
    latents = [LatentId(SAELENS, index) for index in range(world.coder.d_sae)]
    sets = SetBuilder(world.store, "test")
    for latent in sets.ahead(iter(latents), lambda latent: latent):
        assert len(sets._waiting) + len(sets._built) <= BLOCK
        if latent.index % 3:
            sets.pass_over(latent)  # as of a latent that never fired
        else:
            shown, labelled = sets.take(latent)
            test = labelled()
            assert labelled() is test
            assert shown.latent == test.latent == latent
    assert not sets._waiting
    assert not sets._built


def test_blocks_give_what_latents_alone_give(world: PlantedStore) -> None:
    latents = [LatentId(SAELENS, latent.index) for latent in world.latents[:5]]
    sets = SetBuilder(world.store, "test")
    for latent in sets.ahead(latents, lambda latent: latent):
        shown, labelled = sets.take(latent)
        test = labelled()
        alone = labelled_set(world.store, latent, "test", evidence(world.store, latent))
        found = [(i.example.document, i.example.start, i.source) for i in test.items]
        assert found == [(i.example.document, i.example.start, i.source) for i in alone.items]
        assert len(shown.top) == len(evidence(world.store, latent).top)
