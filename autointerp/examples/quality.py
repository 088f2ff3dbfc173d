"""How well a coder reconstructs its hook's tensor: running sums over a sample of tokens."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.examples.exact import ExactSums


class Quality:
    """Sums for the share of variance explained, mergeable by addition."""

    def __init__(self, width: int) -> None:
        # tokens, squared error, squared norm, then the sum of the target vectors
        self.sums = ExactSums(3 + width)

    def add(self, target: torch.Tensor, reconstruction: torch.Tensor) -> None:
        """Add tokens; both tensors are [n, d]."""
        exact = target.double()
        error = (exact - reconstruction.double()).square().sum()
        scalars = [len(exact), float(error), float(exact.square().sum())]
        self.sums.add(np.concatenate([scalars, exact.sum(0).cpu().numpy()]))

    @property
    def variance_explained(self) -> float | None:
        """1 − squared error ÷ variance around the mean; None before two tokens."""
        return variance_explained(self.sums.high)


def variance_explained(sums: NDArray[np.float64]) -> float | None:
    """The share of variance explained that running sums tell."""
    tokens, error, square = sums[:3]
    if tokens < 2:
        return None
    variance = square - float(sums[3:] @ sums[3:]) / tokens
    return float(1 - error / variance) if variance > 0 else None
