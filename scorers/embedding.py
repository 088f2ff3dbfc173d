"""Embedding: are a latent's windows nearer in meaning to its explanation than others are?

One vector for the explanation and one for each window, and nothing is judged: about a twelfth of
what detection costs, and a weak measure alone, for it sees topics and no conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..judges.windows import plain
from ..latents import Explanation, Score
from ..registry import Options, scorers
from . import Materials
from .ranks import rank_score, ranked, shortage, too_few


class Embeds(Protocol):
    """Makes vectors of texts."""

    async def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, d], in the texts' order."""
        ...


class EmbeddingOptions(Options):
    """None of its own: ``embedder`` of the configuration names the model."""

    def needs(self) -> frozenset[str]:
        return frozenset({"embedder"})


@scorers.register("embedding", EmbeddingOptions)
class EmbeddingScorer:
    """Cosine of explanation and window; headline: AUROC of positives against random negatives.

    Outcomes are the cosines. A window's text is its own tokens, without what stands before them.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self, options: EmbeddingOptions | None = None, seed: int = 0, *, embedder: Embeds
    ) -> None:
        self._embedder = embedder

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """Embed and compare."""
        test = materials.test
        if (reason := shortage(test)) is not None:
            return too_few(explanation, reason, "embedding")
        texts = [window.text for window in plain([item.example for item in test.items])]
        vectors = await self._embedder.vectors([explanation.text, *texts])
        cosines = [float(value) for value in vectors[1:] @ vectors[0]]
        return rank_score(ranked(test.items, cosines), explanation, "embedding", test)
