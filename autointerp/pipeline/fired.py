"""What a text sets off: the latents that fire on it, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import LatentId


@dataclass(frozen=True, eq=False)
class Fired:
    """One latent that fires on a text: at which of its tokens, and how strongly."""

    latent: LatentId
    positions: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def maximum(self) -> float:
        return float(self.values.max())

    def activations(self, tokens: int) -> list[float]:
        """One a token, 0 where it does not fire."""
        dense = np.zeros(tokens)
        dense[self.positions] = self.values
        return [float(value) for value in dense]


@dataclass(frozen=True, eq=False)
class Reading:
    """A text as the subject reads it, and every latent that fires on it."""

    tokens: list[str]
    fired: list[Fired]
