"""The active windows of a labelled set: of all strengths, of many documents, none like another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.draws import addresses, draws, seed_of
from autointerp.examples.gathered import Gathered
from autointerp.examples.overlap import Owners, first_of_each, owned
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId, Split

POSITIVES = 50
DECILES = 10
PER_DOCUMENT = 2
FEWEST_POSITIVES = 10
FEWEST_DOCUMENTS = 5


class Chosen(NamedTuple):
    """The windows of a source that made it into a set, and how many repeats were passed over."""

    at: NDArray[np.int64]
    deciles: list[int | None]
    dropped: int


class Positives(NamedTuple):
    """The active windows of a set, and why they are too few if they are."""

    chosen: Chosen
    shortage: str | None


def positives_of(
    store: ExampleStore, latents: list[LatentId], split: Split, gathered: Gathered
) -> Iterator[Positives]:
    """The active windows of each latent's set; all latents' are chosen together."""
    owner = np.repeat(np.arange(len(latents)), np.diff(gathered.bounds))
    repeated = gathered.repeated[: len(owner)]
    seeds = [seed_of(store.seed, latent, f"{split} positives") for latent in latents]
    at = draws(seeds, gathered.codes[: len(owner)], owner)
    at = at[~repeated[at]]
    at = at[first_of_each(owned(gathered.spans[at], owner[at]))]
    rank = _rank_within(addresses(gathered.active.documents[at], owner[at]))
    documents = np.bincount(owner[at[rank == 0]], minlength=len(latents)).tolist()
    at = at[rank < PER_DOCUMENT]
    windows = np.bincount(owner[at], minlength=len(latents))
    at, deciles = _by_decile(at, owner[at], windows, gathered.active.maxima)
    bounds = np.searchsorted(owner[at], np.arange(len(latents) + 1))
    dropped = np.bincount(owner[repeated], minlength=len(latents)).tolist()
    for number, (low, high) in enumerate(pairwise(bounds.tolist())):
        chosen = Chosen(at[low:high], deciles[low:high].tolist(), dropped[number])
        yield Positives(chosen, _shortage(int(windows[number]), documents[number], split))


def _shortage(windows: int, documents: int, split: Split) -> str | None:
    if windows >= FEWEST_POSITIVES and documents >= FEWEST_DOCUMENTS:
        return None
    return (
        f"{windows} distinct active windows in {documents} documents of {split.upper()};"
        f" {FEWEST_POSITIVES} in {FEWEST_DOCUMENTS} are needed"
    )


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal entries come before each entry."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return rank


def _by_decile(
    at: NDArray[np.intp], owner: Owners, counts: NDArray[np.intp], maxima: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Of each latent's windows in random order, the same number of each equal-count group by
    maximum.

    ``counts`` tells how many windows each latent has. Returns the windows by latent and group,
    weakest first, and their groups.
    """
    groups = np.clip(counts // 5, 1, DECILES)
    each = np.minimum(counts, POSITIVES) // groups
    order = np.lexsort((maxima[at], owner))
    rank = np.empty(len(at), np.int64)
    rank[order] = np.arange(len(at)) - (np.cumsum(counts) - counts)[owner[order]]
    group = ((rank + 1) * groups[owner] - 1) // counts[owner]
    kept = np.flatnonzero(_rank_within(owner * DECILES + group) < each[owner])
    kept = kept[np.lexsort((group[kept], owner[kept]))]
    return at[kept], group[kept]
