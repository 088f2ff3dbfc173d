"""Simulation of the planted store's latents by patterns: what its tests share."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

from planted import PlantedLatent
from planted_others import PlantedStore

from autointerp.examples.sampling import labelled_set
from autointerp.latents import Score
from autointerp.scorers import Materials
from autointerp.scorers.simulation import SimulationOptions, SimulationScorer


def materials(world: PlantedStore, latent: PlantedLatent) -> Materials:
    """With the windows that a scorer may fit on."""
    found = world.materials(latent)
    assert found.evidence is not None
    select = partial(labelled_set, world.store, found.latent, "select", found.evidence)
    return replace(found, selection=select)


def by_pattern(
    world: PlantedStore, latent: PlantedLatent, text: str | None = None, **options: Any
) -> Score:
    scorer = SimulationScorer(SimulationOptions(**options))
    return asyncio.run(scorer.score(world.explanation(latent, text), materials(world, latent)))
