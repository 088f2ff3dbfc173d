"""What a stage is about, read from the results a block at a time.

A run may have a million latents. Their texts, and what was done of them before, stay in the file;
in memory are the numbers of the latents alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Explanation, LatentId
from autointerp.pipeline.results import Results
from autointerp.pipeline.retries import NO_RETRY, Retry
from autointerp.pipeline.rows import is_scored

BLOCK = 256  # latents that are read at once

Item = TypeVar("Item")
Indices = Mapping[str, NDArray[np.int64]]  # ascending, by coder


def blocks(items: Iterable[Item], size: int = BLOCK) -> Iterator[list[Item]]:
    """The items in their order, so many at a time."""
    rest = iter(items)
    while block := list(islice(rest, size)):
        yield block


def indices(latents: Iterable[LatentId]) -> Indices:
    """The latents as numbers by coder, each once."""
    found: dict[str, list[NDArray[np.int64]]] = {}
    for block in blocks(latents, 4096):
        for coder in {latent.coder for latent in block}:
            part = np.array([i.index for i in block if i.coder == coder], np.int64)
            found.setdefault(coder, []).append(part)
    return {coder: np.unique(np.concatenate(parts)) for coder, parts in sorted(found.items())}


def members_of(found: Indices) -> Iterator[LatentId]:
    """The latents of :func:`indices`."""
    for coder, numbers in found.items():
        yield from (LatentId(coder, index) for index in numbers.tolist())


def at(found: Indices, places: Sequence[int]) -> Iterator[LatentId]:
    """Those of :func:`members_of` in these places, which ascend."""
    first, rest = 0, list(places)
    for coder, numbers in found.items():
        mine = [place - first for place in rest if place < first + len(numbers)]
        yield from (LatentId(coder, int(numbers[place])) for place in mine)
        first, rest = first + len(numbers), rest[len(mine) :]


def unexplained(
    results: Results, latents: Iterable[LatentId], explainer: str, retry: Retry = NO_RETRY
) -> Iterator[LatentId]:
    """The latents, in their order, that have no explanation of this explainer yet, or a failed
    one that is tried again."""
    for block in blocks(latents):
        done = {e.latent for e in results.of(block, explainer)}
        yield from (i for i in block if i not in done or retry.of(explainer, i))


@dataclass(frozen=True, eq=False)
class Explained(Mapping[LatentId, Explanation]):
    """One explainer's explanations of some latents, those that have a text to be judged.

    They are read anew whenever they are looked at, and do not change meanwhile.
    """

    results: Results
    latents: Sequence[LatentId]
    explainer: str

    @cached_property
    def indices(self) -> Indices:
        """Which latents have one."""
        return indices(e.latent for e in self.stream())

    def stream(self) -> Iterator[Explanation]:
        """All of them, in the latents' order."""
        for block in blocks(self.latents):
            yield from filter(is_scored, self.results.of(block, self.explainer))

    def __getitem__(self, latent: LatentId) -> Explanation:
        for explanation in filter(is_scored, self.results.of([latent], self.explainer)):
            return explanation
        raise KeyError(latent)

    def __iter__(self) -> Iterator[LatentId]:
        return members_of(self.indices)

    def __len__(self) -> int:
        return sum(map(len, self.indices.values()))


@dataclass(frozen=True)
class Done:
    """The (explanation id, scorer, control) of scores that need not be made again."""

    results: Results
    retry: Retry = NO_RETRY

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, tuple) or self.retry.of_score(key):
            return False
        return self.results.has_score(*key)


@dataclass(frozen=True)
class Texts(Iterable[Explanation]):
    """The explanations of several explainers, one explainer after the other."""

    parts: Sequence[Explained]

    def __iter__(self) -> Iterator[Explanation]:
        return chain.from_iterable(part.stream() for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))
