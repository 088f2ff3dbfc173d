"""The embedder: unit vectors of a real model, queued for many, and its refusals."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import minilm

from autointerp.latents import AutointerpError
from autointerp.subject.embedder import Embedder, EmbeddingQueue, load_embedder

TEXTS = ["a cat on a mat", "two dogs in a yard", "the bank raised its interest rate", ""]


class Model:
    """Stands for a sentence-transformers model; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        self.calls += 1
        return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_a_real_model_gives_unit_vectors_that_know_what_texts_mean() -> None:
    embedder = load_embedder(minilm(), device="cpu")
    vectors = embedder(TEXTS)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.1
    np.testing.assert_allclose(embedder(TEXTS[:1])[0], vectors[0], atol=1e-5)


def test_texts_of_many_go_in_together_and_once() -> None:
    model = Model()

    async def work() -> list[np.ndarray]:
        queue = EmbeddingQueue(Embedder(model))
        found = await asyncio.gather(*(queue.vectors(["ab", "c" * i]) for i in range(9)))
        assert len(await queue.vectors([])) == 0
        await queue.aclose()
        return list(found)

    for i, vectors in enumerate(asyncio.run(work())):
        assert vectors.tolist() == [[2, 1], [i, 1]]
    assert model.calls == 1


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    minilm()
    with pytest.raises(AutointerpError, match="cannot load the embedder") as caught:
        load_embedder(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(AutointerpError, match=r"autointerp\[embedding\]"):
        load_embedder("any")
