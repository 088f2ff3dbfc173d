"""Scorers: how well an explanation predicts what its latent does. One module each.

A scorer registers with ``autointerp.registry.scorers`` and is built as
``Scorer(options, seed=…, **needs)``, with what its options say it needs. Modules here import
relatively.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..latents import Background, Evidence, Explanation, LabelledSet, LatentId, Score
from ..registry import Options


@dataclass(frozen=True, eq=False)
class Materials:
    """What a scorer may use for one latent.

    ``test`` are labelled TEST windows. ``background_maxima`` [n] has the latent's maximum in
    every window of ``background``, 0 where inactive.
    """

    latent: LatentId
    test: LabelledSet
    evidence: Evidence | None = None
    background: Background | None = None
    background_maxima: NDArray[np.float32] | None = None


class JudgedOptions(Options):
    """Base of the options of scorers that a judge answers."""

    def needs(self) -> frozenset[str]:
        return frozenset({"judge"})


class Scorer(Protocol):
    """Scores one explanation.

    ``reads`` tells which kind of explanation: ``input`` (what the latent fires on), ``output``
    (what it causes), or None if it scores the latent itself; then there are no controls.
    """

    reads: Literal["input", "output"] | None

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """Judge the explanation. The same explanation, materials and seed give the same score."""
        ...
