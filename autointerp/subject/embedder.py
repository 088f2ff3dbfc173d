"""Texts as vectors, by a sentence-transformers model (the extra ``embedding``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError
from autointerp.subject.gathering import Answer, Gatherer
from autointerp.subject.reasons import first_line
from autointerp.subject.recent import Recent

Vector = NDArray[np.float32]
Embed = Callable[[Sequence[str]], NDArray[np.float32]]

BATCH = 64  # texts in a forward pass
LOT = 512  # texts taken together at most
MEMORY = 2**15  # vectors kept


class Embedder:
    """A loaded embedding model: ``embedder(texts)`` gives unit vectors, [n, d]."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1, [n, d]; a model that cuts long texts cuts these too."""
        found = self._model.encode(
            list(texts),
            batch_size=BATCH,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        vectors: NDArray[np.float32] = np.asarray(found, np.float32)
        return vectors


class EmbeddingQueue:
    """Embeds texts for coroutines, those of all that wait together; close with ``aclose``.

    ``embedders`` each give unit vectors, [n, d], of n texts, in a thread each.
    """

    def __init__(self, *embedders: Embed) -> None:
        self._gatherer: Gatherer[str, Vector] = Gatherer(
            [_rows(embed) for embed in embedders], "embedder", lot=LOT, memory=Recent(MEMORY)
        )

    async def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, [n, d], in the texts' order."""
        found = await self._gatherer.ask(texts)
        return np.stack(found) if found else np.zeros((0, 0), np.float32)

    async def aclose(self) -> None:
        """Let the batches under way end, and end the threads."""
        await self._gatherer.aclose()


def _rows(embed: Embed) -> Answer[str, Vector]:
    return lambda texts: list(embed(texts))


def check_installed() -> None:
    """Raise AutointerpError unless the extra is installed; imports nothing."""
    if find_spec("sentence_transformers") is None:
        raise AutointerpError(
            "an embedder needs sentence-transformers; pip install 'autointerp[embedding]', or"
            " pip install -e '.[embedding]' in a checkout"
        )


def load_embedder(model: str, revision: str | None = None, device: str = "auto") -> Embedder:
    """Load a sentence-transformers model from a folder or the hub.

    Raises:
        AutointerpError: if the extra is not installed, or there is no such model.
    """
    check_installed()
    from sentence_transformers import SentenceTransformer  # seconds of imports
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = None if device == "auto" else device
    try:
        loaded = SentenceTransformer(model, revision=revision, device=place)
    except (OSError, ValueError, RuntimeError) as error:
        raise AutointerpError(
            f"cannot load the embedder {model!r}: {first_line(error)};"
            " set embedder.model to a folder or a hub id"
        ) from error
    return Embedder(loaded)
