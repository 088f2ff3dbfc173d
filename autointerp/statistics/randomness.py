"""Random numbers derived from what they are for, never from a shared generator."""

from __future__ import annotations

import hashlib

import numpy as np


def derived_generator(seed: int, *parts: object) -> np.random.Generator:
    """A generator for one purpose: the same for the same seed and parts, whatever ran before."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
