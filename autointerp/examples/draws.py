"""Random choices that depend on the run's seed, the latent and the purpose, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import mix, splitmix64
from autointerp.latents import LatentId

_START_BITS = 32
_LAST = np.uint64(2**64 - 1)


def addresses(documents: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each window: its document and its start."""
    return documents << _START_BITS | starts


def split_addresses(
    codes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The documents and starts that :func:`addresses` joined."""
    return codes >> _START_BITS, codes & (2**_START_BITS - 1)


def seed_of(seed: int, latent: LatentId, purpose: str) -> int:
    """The seed of one choice, 64 bits."""
    digest = hashlib.blake2b(f"{seed} {latent} {purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def draw(seed: int, codes: NDArray[np.int64], count: int | None = None) -> NDArray[np.intp]:
    """The first ``count`` (all unless given) windows of a random order, given their addresses."""
    keys = mix(codes.astype(np.uint64), seed)
    if count is None or count >= len(keys):
        return np.argsort(keys)
    first = np.argpartition(keys, count)[:count]
    return first[np.argsort(keys[first])]


def draws(
    seeds: Sequence[int], codes: NDArray[np.int64], owners: NDArray[np.int64]
) -> NDArray[np.intp]:
    """:func:`draw` for several owners, one after the other; ``owners`` [n] index the seeds."""
    salts = splitmix64(np.array(seeds, np.uint64))
    keys = splitmix64(codes.astype(np.uint64) ^ salts[owners])
    return np.lexsort((keys, owners))


def draw_each(
    seeds: Sequence[int], codes: NDArray[np.int64], allowed: NDArray[np.bool_], count: int
) -> list[NDArray[np.intp]]:
    """:func:`draw` for several owners from the same windows: of those allowed, [owners, n]."""
    keys = splitmix64(codes.astype(np.uint64) ^ splitmix64(np.array(seeds, np.uint64))[:, None])
    keys[~allowed] = _LAST
    first = np.argpartition(keys, min(count, len(codes)) - 1, axis=1)[:, :count]
    drawn = np.take_along_axis(keys, first, axis=1)
    order = np.argsort(drawn, axis=1)
    found = np.count_nonzero(drawn < _LAST, axis=1).tolist()
    return [row[: found[i]] for i, row in enumerate(np.take_along_axis(first, order, axis=1))]


def race(seed: int, codes: NDArray[np.int64], rates: NDArray[np.float64]) -> NDArray[np.intp]:
    """A random order in which windows of a higher rate tend to come first.

    Taking the first k draws k without replacement, each time in proportion to the rates (all
    positive): the k shortest of exponential waiting times.
    """
    uniform = (mix(codes.astype(np.uint64), seed) >> np.uint64(11)) + 0.5
    return np.argsort(-np.log(uniform / 2.0**53) / rates, kind="stable")
