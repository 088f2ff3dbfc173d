"""The other latents of a run, for scorers that set one latent against some of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache

import numpy as np

from autointerp.examples.sampling import evidence, labelled_set
from autointerp.examples.store import ExampleStore
from autointerp.latents import Example, Explanation, Item, LatentId, Split
from autointerp.pipeline.baselines import nearest_by
from autointerp.pipeline.plan import Indices, indices
from autointerp.scorers import Other
from autointerp.statistics import derived_generator
from autointerp.subject.coders import SparseCoder

KEPT = 256  # latents whose windows stay in memory
TRIED = 16  # of the others, drawn at random, when some are wanted that are active elsewhere

Address = tuple[int, int]  # a window's document and start


class OtherLatents:
    """Finds them when they are asked for; windows of the last few hundred latents are kept.

    ``explanations`` are those of the run that are scored, of what latents fire on; they and
    ``coders``, which is called then, are looked at when they are first needed.
    """

    def __init__(
        self,
        store: ExampleStore,
        coders: Callable[[], Mapping[str, SparseCoder]],
        explanations: Mapping[LatentId, Explanation],
        seed: int,
        split: Split = "test",
    ) -> None:
        self._store = store
        self._coders = coders
        self._explanations = explanations
        self._seed = seed
        self._split: Split = split
        self._windows = lru_cache(maxsize=KEPT)(self._build)

    @cached_property
    def _nearest(self) -> Callable[[LatentId], list[LatentId]]:
        return nearest_by(self._coders(), self._members)

    @cached_property
    def _members(self) -> Indices:
        return indices(self._explanations)

    def nearest(self, latent: LatentId, count: int) -> list[Other]:
        """See ``Others.nearest``; latents with too few windows are passed over."""
        near: list[LatentId] = []
        for other in self._nearest(latent):
            if len(near) == count:
                break
            if self._windows(other):
                near.append(other)
        active = {i: self._active(i) for i in [latent, *near]}
        found = []
        for other in near:
            taken = frozenset().union(*(active[i] for i in active if i != other))
            found.append(self._other(other, taken, active[other]))
        return found

    def apart(self, latent: LatentId, count: int) -> list[Other]:
        """See ``Others.apart``."""
        mine = self._active(latent)
        tried = self._drawn(latent)
        shares = {other: self._together(latent, other) for other in tried}
        ranked = [other for other in sorted(tried, key=shares.__getitem__) if self._windows(other)]
        return [self._other(other, mine, self._active(other)) for other in ranked[:count]]

    def _drawn(self, latent: LatentId) -> list[LatentId]:
        members = self._members.get(latent.coder, np.zeros(0, np.int64))
        rng = derived_generator(self._seed, latent, "apart")
        first = members[rng.permutation(len(members))[: TRIED + 1]].tolist()
        return [LatentId(latent.coder, i) for i in first if i != latent.index][:TRIED]

    def _together(self, latent: LatentId, other: LatentId) -> float:
        """The share of the other's background windows in which the latent is active too."""
        mine = self._store.background_maxima(latent, self._split) > 0
        theirs = self._store.background_maxima(other, self._split) > 0
        return float(np.count_nonzero(mine & theirs)) / max(1, int(np.count_nonzero(theirs)))

    def _other(
        self, other: LatentId, taken: frozenset[Address], active: frozenset[Address]
    ) -> Other:
        free = [item for item in self._windows(other) if _address(item.example) not in taken]
        return Other(self._explanations[other], free, active)

    def _active(self, latent: LatentId) -> frozenset[Address]:
        """Where the latent is known to be active: its sampled windows, and the background's."""
        windows = self._store.windows(latent, self._split, "sampled")
        found = set(zip(windows.documents.tolist(), windows.starts.tolist(), strict=True))
        background = self._store.background(self._split)
        at = np.flatnonzero(self._store.background_maxima(latent, self._split))
        known = zip(background.documents[at].tolist(), background.starts[at].tolist(), strict=True)
        return frozenset(found.union(known))

    def _build(self, latent: LatentId) -> tuple[Item, ...]:
        test = labelled_set(self._store, latent, self._split, evidence(self._store, latent))
        return tuple(item for item in test.items if item.truth)


def _address(example: Example) -> Address:
    return example.document, example.start
