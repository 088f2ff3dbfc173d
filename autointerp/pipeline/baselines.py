"""The controls of a run, built from what it has: its examples, coders and explanations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from autointerp.examples.sampling import evidence
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline import controls
from autointerp.pipeline.controls import Control
from autointerp.pipeline.plan import Explained, Indices, indices, members_of
from autointerp.subject.coders import SparseCoder

NEAR = 16
COSINE_STEPS = 10_000  # cosines closer than one over this count as equal
BLOCK = 256  # latents whose cosines with others are held at once
CHUNK = 2**14  # of the others
KEPT = 1024  # latents whose neighbours stay in memory
_PLACES = 2**32  # more than a coder has latents


def build_controls(
    store: ExampleStore, coders: Mapping[str, SparseCoder], explanations: Explained, seed: int
) -> dict[LatentId, list[Control]]:
    """All controls of the run, by the latent that they are scored on. Texts are read of the few
    latents alone whose texts they are."""
    explained = indices(e.latent for e in explanations.stream() if e.status == "explained")
    latents = controls.controlled(members_of(explained), seed=seed)
    densities = {coder: store.statistics(coder).firing_count for coder in explained}
    top = {i: [t for t, _ in evidence(store, i).statistics.top_tokens] for i in latents}

    def texts(wanted: Sequence[LatentId]) -> dict[LatentId, str]:
        return {latent: explanations[latent].text for latent in wanted}

    found = [
        *controls.shuffled(explained, densities, texts, latents, seed=seed),
        *controls.empty(latents),
        *controls.neighbour(texts, nearest_by(coders, explained), latents),
        *controls.token_list(top, latents),
    ]
    by_latent: dict[LatentId, list[Control]] = defaultdict(list)
    for control in found:
        by_latent[control.latent].append(control)
    return dict(by_latent)


def nearest_by(
    coders: Mapping[str, SparseCoder], members: Indices
) -> Callable[[LatentId], list[LatentId]]:
    """Ranks up to ``NEAR`` of ``members``, of the same coder, by the cosine of their decoder
    directions; a block of latents is ranked at the first need of one of them, and the last few
    blocks are kept."""
    ranked: dict[LatentId, list[LatentId]] = {}

    def nearest(latent: LatentId) -> list[LatentId]:
        if latent not in ranked:
            if len(ranked) > KEPT:
                ranked.clear()
            name, others = latent.coder, members.get(latent.coder, np.zeros(0, np.int64))
            at = int(np.searchsorted(others, latent.index))
            block = [*{latent.index: None, **dict.fromkeys(others[at : at + BLOCK].tolist())}]
            for index, near in zip(block, _ranked(coders[name], block, others), strict=True):
                ranked[LatentId(name, index)] = [LatentId(name, other) for other in near]
        return ranked[latent]

    return nearest


def _ranked(coder: SparseCoder, block: list[int], others: NDArray[np.int64]) -> Iterator[list[int]]:
    """For each latent of the block the nearest of the others, itself left out."""
    directions = coder.decoder_directions()
    mine = normalize(directions[block].float(), dim=1)
    best = torch.empty(len(block), 0, dtype=torch.int64)
    for low in range(0, len(others), CHUNK):
        part = torch.from_numpy(others[low : low + CHUNK])
        cosines = mine @ normalize(directions[part].float(), dim=1).T
        # Cosines differ in their last bits with the size of the block; like ones go by index.
        keys = (cosines * COSINE_STEPS).round().long().cpu() * _PLACES - part
        both = torch.cat([best, keys], dim=1)
        best = both.topk(min(NEAR + 1, both.shape[1]), dim=1).values
    for index, row in zip(block, (-best % _PLACES).tolist(), strict=True):
        yield [other for other in row if other != index][:NEAR]
