"""The controls of a run, built from what it has: its examples, coders and explanations."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch.nn.functional import normalize

from autointerp.examples.sampling import evidence
from autointerp.examples.store import ExampleStore
from autointerp.latents import Explanation, LatentId
from autointerp.pipeline import controls
from autointerp.pipeline.controls import Control
from autointerp.subject.coders import SparseCoder

NEAR = 16
COSINE_STEPS = 10_000  # cosines closer than one over this count as equal
BLOCK = 256  # latents whose cosines with all others are held at once


def build_controls(
    store: ExampleStore,
    coders: Mapping[str, SparseCoder],
    explanations: Sequence[Explanation],
    seed: int,
) -> dict[LatentId, list[Control]]:
    """All controls of the run, by the latent that they are scored on."""
    latents = controls.controlled(explanations, seed=seed)
    densities = {
        e.latent: float(store.statistics(e.latent.coder).firing_count[e.latent.index])
        for e in explanations
    }
    explained = [e.latent for e in explanations if e.status == "explained"]
    top = {i: [t for t, _ in evidence(store, i).statistics.top_tokens] for i in latents}
    found = [
        *controls.shuffled(explanations, densities, latents, seed=seed),
        *controls.empty(latents),
        *controls.neighbour(explanations, nearest_by(coders, explained), latents),
        *controls.token_list(top, latents),
    ]
    by_latent: dict[LatentId, list[Control]] = defaultdict(list)
    for control in found:
        by_latent[control.latent].append(control)
    return dict(by_latent)


def nearest_by(
    coders: Mapping[str, SparseCoder], latents: Sequence[LatentId]
) -> Callable[[LatentId], list[LatentId]]:
    """Ranks up to ``NEAR`` of ``latents``, of the same coder, by the cosine of their decoder
    directions; a block of latents is ranked at the first need of one of them."""
    members: dict[str, list[int]] = defaultdict(list)
    for latent in sorted(latents):
        members[latent.coder].append(latent.index)
    ranked: dict[LatentId, list[LatentId]] = {}

    def nearest(latent: LatentId) -> list[LatentId]:
        if latent not in ranked:
            name, others = latent.coder, members[latent.coder]
            at = bisect_left(others, latent.index)
            block = [*{latent.index: None, **dict.fromkeys(others[at : at + BLOCK])}]
            for index, near in zip(block, _ranked(coders[name], block, others), strict=True):
                ranked[LatentId(name, index)] = [LatentId(name, other) for other in near]
        return ranked[latent]

    return nearest


def _ranked(coder: SparseCoder, block: list[int], others: list[int]) -> Iterator[list[int]]:
    """For each latent of the block the nearest of the others, itself left out."""
    directions = coder.decoder_directions()
    theirs = normalize(directions[others].float(), dim=1)
    cosines = normalize(directions[block].float(), dim=1) @ theirs.T
    # Cosines differ in their last bits with the size of the block; like ones go by index.
    cosines = (cosines * COSINE_STEPS).round()
    order = torch.argsort(cosines, dim=1, descending=True, stable=True)[:, : NEAR + 1].tolist()
    for index, row in zip(block, order, strict=True):
        yield [others[i] for i in row if others[i] != index][:NEAR]
