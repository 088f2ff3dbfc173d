"""Which tokens a latent peaks on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_TOKENS = 16
MOST_WINDOWS = 0.8


class PeakTokens(NamedTuple):
    """Tokens, the commonest first, and the share of windows that peak on each."""

    tokens: NDArray[np.int32]  # [k]
    shares: NDArray[np.float64]  # [k]


def peak_tokens(peaks: NDArray[np.int32]) -> PeakTokens:
    """The commonest of ``peaks`` [windows], the tokens on which active windows peak: as many as
    make up four fifths, and up to 16.

    Negatives are chosen by them and false alarms weighted by how common they are: both must mean
    the same tokens.
    """
    tokens, counts = np.unique(peaks, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[order]), MOST_WINDOWS * len(peaks))) + 1
    kept = order[: min(enough, MOST_TOKENS)]
    return PeakTokens(tokens[kept], counts[kept] / max(1, len(peaks)))
