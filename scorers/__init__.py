"""Scorers: how well an explanation predicts what its latent does. One module each.

A scorer registers with ``autointerp.registry.scorers`` and is built as
``Scorer(options, seed)``. Modules here import relatively.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..judges import Judge
from ..latents import Background, Evidence, Explanation, LabelledSet, LatentId, Score


@dataclass(frozen=True, eq=False)
class Materials:
    """What a scorer may use for one latent; the engine builds what its ``needs`` name.

    ``test`` are labelled TEST windows. ``background_maxima`` [n] has the latent's maximum in
    every window of ``background``, 0 where inactive.
    """

    latent: LatentId
    test: LabelledSet
    judge: Judge
    evidence: Evidence | None = None
    background: Background | None = None
    background_maxima: NDArray[np.float32] | None = None


class Scorer(Protocol):
    """Scores one explanation. ``needs`` names the materials it cannot do without."""

    needs: frozenset[str]

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """Judge the explanation. The same explanation, materials and seed give the same score."""
        ...
