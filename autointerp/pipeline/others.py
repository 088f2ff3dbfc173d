"""The other latents of a run, for scorers that set one latent against some of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autointerp.config import RunConfig
from autointerp.examples.activity import Active, ActivityQueue, Question, activity
from autointerp.examples.draws import addresses
from autointerp.examples.pools import codes_of
from autointerp.examples.sampling import evidence, labelled_set
from autointerp.examples.store import ExampleStore
from autointerp.latents import Explanation, Item, LatentId, Split
from autointerp.pipeline.baselines import nearest_by
from autointerp.pipeline.plan import Indices, indices
from autointerp.pipeline.workshop import Workshop
from autointerp.scorers import Neighbourhood, Other
from autointerp.statistics import derived_generator
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Subject

KEPT = 256  # latents whose windows stay in memory
TRIED = 16  # of the others, drawn at random, when some are wanted that are active elsewhere
SPARE = 1.5  # windows read for each that is wanted: in some, another latent is active too

Coders = Callable[[], Mapping[str, SparseCoder]]


class Reads(Protocol):
    """Has the subject read windows."""

    async def active(self, question: Question) -> Active:
        """Which of its latents are active in which of its windows: [latents, windows]."""
        ...


class OtherLatents:
    """Finds them when they are asked for; windows of the last few hundred latents are kept.

    What the store knows of where latents are active is a sample, so the windows that are left by
    it are read once more: a window is a latent's alone if that is what the subject shows.

    ``explanations`` are those of the run that are scored, of what latents fire on; they and
    ``coders``, which is called then, are looked at when they are first needed.
    """

    def __init__(
        self,
        store: ExampleStore,
        coders: Coders,
        explanations: Mapping[LatentId, Explanation],
        reads: Reads,
        seed: int,
        split: Split = "test",
    ) -> None:
        self._store = store
        self._coders = coders
        self._explanations = explanations
        self._reads = reads
        self._seed = seed
        self._split: Split = split
        self._windows = lru_cache(maxsize=KEPT)(self._build)

    @cached_property
    def _nearest(self) -> Callable[[LatentId], list[LatentId]]:
        return nearest_by(self._coders(), self._members)

    @cached_property
    def _members(self) -> Indices:
        return indices(self._explanations)

    @cached_property
    def _background(self) -> NDArray[np.int64]:
        return codes_of(self._store.background(self._split))

    async def nearest(self, latent: LatentId, count: int, windows: int) -> Neighbourhood:
        """See ``Others.nearest``; latents with too few windows are passed over."""
        near = list(islice(filter(self._windows, self._nearest(latent)), count))
        if not near:
            return Neighbourhood([], [])
        each = -(-windows // len(near))
        wanted = {latent: windows, **dict.fromkeys(near, each)}
        active = {one: self._active(one) for one in wanted}
        pools = {
            one: self._drawn_windows(one, number, [active[i] for i in wanted if i != one])
            for one, number in wanted.items()
        }
        alone = await self._alone(pools, list(wanted))
        own = alone.pop(latent)
        return Neighbourhood(own, [Other(self._explanations[i], alone[i]) for i in near])

    async def apart(self, latent: LatentId, count: int, windows: int) -> list[Other]:
        """See ``Others.apart``."""
        tried = self._drawn(latent)
        shares = {other: self._together(latent, other) for other in tried}
        ranked = filter(self._windows, sorted(tried, key=shares.__getitem__))
        lenders = list(islice(ranked, count))
        each, active = -(-windows // max(1, len(lenders))), [self._active(latent)]
        pools = {other: self._drawn_windows(other, each, active) for other in lenders}
        alone = await self._alone(pools, [latent])
        return [Other(self._explanations[i], items) for i, items in alone.items()]

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

    def _drawn_windows(
        self, latent: LatentId, number: int, taken: Sequence[NDArray[np.int64]]
    ) -> list[Item]:
        """Some more of the latent's windows than ``number``, at random, none of those taken."""
        items = self._windows(latent)
        free = np.flatnonzero(~np.isin(_codes(items), np.concatenate(taken)))
        rng = derived_generator(self._seed, latent, "windows alone")
        return [items[i] for i in rng.permutation(free)[: int(SPARE * number)].tolist()]

    async def _alone(
        self, pools: Mapping[LatentId, Sequence[Item]], among: Sequence[LatentId]
    ) -> dict[LatentId, list[Item]]:
        """Of each latent's windows those in which none ``among`` the latents is, but itself."""
        codes = {one: _codes(items) for one, items in pools.items()}
        windows = np.unique(np.concatenate([np.zeros(0, np.int64), *codes.values()]))
        if not len(windows):
            return {one: [] for one in pools}
        question = Question(tuple(among), tuple(windows.tolist()))
        active = await self._reads.active(question)
        alone = {}
        for one, items in pools.items():
            foreign = np.array([other != one for other in among])
            shared = windows[active[foreign].any(axis=0)]
            free = np.flatnonzero(~np.isin(codes[one], shared))
            alone[one] = [items[i] for i in free.tolist()]
        return alone

    def _active(self, latent: LatentId) -> NDArray[np.int64]:
        """Where the store knows the latent to be active: its sampled windows, the background's."""
        sampled = codes_of(self._store.windows(latent, self._split, "sampled"))
        maxima = self._store.background_maxima(latent, self._split)
        return np.concatenate([sampled, self._background[maxima > 0]])

    def _build(self, latent: LatentId) -> tuple[Item, ...]:
        test = labelled_set(self._store, latent, self._split, evidence(self._store, latent))
        return tuple(item for item in test.items if item.truth)


@asynccontextmanager
async def open_others(
    config: RunConfig,
    workshop: Workshop,
    store: ExampleStore,
    coders: Coders,
    explanations: Mapping[LatentId, Explanation],
) -> AsyncIterator[OtherLatents | None]:
    """The others of a run for its scorers; None if none of them asks for any. The subject is
    loaded when windows are first read."""
    if "others" not in config.needs("score"):
        yield None
        return
    workers = workshop.workers("activity", store.directory.resolve())
    queue = ActivityQueue(workers or [partial(_read_here, workshop, store)])
    try:
        yield OtherLatents(store, coders, explanations, queue, config.run.seed)
    finally:
        await queue.aclose()


def _read_here(workshop: Workshop, store: ExampleStore, lot: Sequence[Question]) -> list[Active]:
    subject = workshop.subject
    assert isinstance(subject, Subject)  # there are no workers that have it
    return activity(store, subject, workshop.attached, lot)


def _codes(items: Sequence[Item]) -> NDArray[np.int64]:
    """The windows' addresses: [n]."""
    documents = np.array([item.example.document for item in items], np.int64)
    return addresses(documents, np.array([item.example.start for item in items], np.int64))
