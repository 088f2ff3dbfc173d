"""The controls of a run, built from what it has: its examples, coders and explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch

from autointerp.examples.sampling import evidence
from autointerp.examples.store import ExampleStore
from autointerp.latents import Explanation, LatentId
from autointerp.pipeline import controls
from autointerp.pipeline.controls import Control
from autointerp.subject.coders import SparseCoder


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
    """Ranks ``latents`` of the same coder by the cosine of their decoder directions."""
    members: dict[str, list[LatentId]] = defaultdict(list)
    for latent in latents:
        members[latent.coder].append(latent)

    def nearest(latent: LatentId) -> list[LatentId]:
        others = members[latent.coder]
        directions = coders[latent.coder].decoder_directions()
        own = directions[latent.index].float()
        theirs = directions[[other.index for other in others]].float()
        cosines = torch.nn.functional.cosine_similarity(theirs, own[None], dim=1)
        order = torch.argsort(cosines, descending=True, stable=True).tolist()
        return [others[i] for i in order if others[i] != latent]

    return nearest
