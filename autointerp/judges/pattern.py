"""A judge without an LLM: an explanation that is a pattern is run on the windows' tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.judges import NoVerdict, Verdict
from autointerp.latents import Example, LatentId
from autointerp.patterns import Lexicon, Windows, parse
from autointerp.registry import Options, judges


@judges.register("pattern")
class PatternJudge:
    """Says yes to a window in which the pattern matches anywhere."""

    name = "pattern"

    def __init__(self, options: Options | None = None, seed: int = 0) -> None:
        self._lexicon = Lexicon([])

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """One verdict an example, from its tokens alone.

        Raises:
            AutointerpError: if the explanation is not a pattern.
        """
        pattern = parse(explanation)
        by_length: dict[int, list[int]] = {}
        for index, example in enumerate(examples):
            by_length.setdefault(len(example.token_ids), []).append(index)
        verdicts: list[Verdict | NoVerdict] = [Verdict(False)] * len(examples)
        for indices in by_length.values():
            windows = self._windows([examples[index] for index in indices])
            hits = np.asarray(windows.matches(pattern).any(axis=1))
            for index, hit in zip(indices, hits, strict=True):
                verdicts[index] = Verdict(bool(hit))
        return verdicts

    def _windows(self, examples: Sequence[Example]) -> Windows:
        vocabulary = examples[0].vocabulary
        if self._lexicon.vocabulary is not vocabulary:
            self._lexicon = Lexicon(vocabulary)
        return Windows(self._lexicon, *stacked(examples))


def stacked(examples: Sequence[Example]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Token ids [n, window] and left ids [n, longest], padded on the left with −1."""
    longest = max(example.block.left_ids.shape[1] for example in examples)
    left = np.full((len(examples), longest), -1, dtype=np.int32)
    for row, (block, place) in enumerate(examples):
        left[row, longest - block.left_ids.shape[1] :] = block.left_ids[place]
    return np.stack([block.token_ids[place] for block, place in examples]), left
