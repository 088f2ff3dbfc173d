"""Prompts for steering: the beginnings of real passages, cut where a latent is silent or active.

A prompt is a run of 16 to 64 tokens of one document, all of which the subject saw in one row. A
*neutral* one ends on a token on which the latent is inactive; an *activating* one ends on the first
token of a window that reaches half the window's maximum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.draws import addresses, draw, seed_of
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId, Split

SHORTEST, LONGEST = 16, 64  # tokens
PER_DOCUMENT = 2
CONTINUED = 8  # tokens that must find room in the context behind a prompt
CHUNK = 2**22  # probabilities held at once

Prompt = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts of one latent, each the token ids of one run, BOS not among them."""

    neutral: list[Prompt]
    activating: list[Prompt]

    def __len__(self) -> int:
        return len(self.neutral) + len(self.activating)

    @property
    def all(self) -> list[Prompt]:
        """The neutral ones first."""
        return [*self.neutral, *self.activating]


class Prefixes:
    """Draws prompts from a store. The same latent, split and count give the same prompts."""

    def __init__(self, store: ExampleStore) -> None:
        self._store = store
        self.vocabulary: Sequence[str] = store.vocabulary

    def of(self, latent: LatentId, split: Split, count: int) -> Prompts:
        """``count`` prompts, half of each kind; where active windows are too few, more are neutral.

        At most two come from one document, and no two are the same tokens. There are fewer where
        the split has no more.

        Raises:
            AutointerpError: if the latent is not in the store.
        """
        taken = _Taken(self._store)
        activating = taken.first(self._activating(latent, split), count // 2)
        neutral = taken.first(self._neutral(latent, split), count - len(activating))
        return Prompts(neutral, activating)

    def activating(self, latent: LatentId, split: Split, count: int) -> list[Prompt]:
        """Up to ``count`` activating prompts: what zero-ablation is measured on."""
        return _Taken(self._store).first(self._activating(latent, split), count)

    def rows(self, count: int) -> list[Prompt]:
        """Up to ``count`` random runs of EXPLAIN tokens, for what is measured of the subject."""
        sample = self._store.background("explain")
        ends = sample.starts + self._store.window - 1
        runs = zip(sample.documents[:count].tolist(), ends[:count].tolist(), strict=True)
        return [_prompt(self._store, document, last) for document, last in runs]

    def _activating(self, latent: LatentId, split: Split) -> list[tuple[int, int]]:
        """(document, last token) of every active window, in a random order."""
        windows = self._store.windows(latent, split, "sampled")
        strong = windows.activations >= 0.5 * windows.maxima[:, None]
        cuts = windows.starts + strong.argmax(axis=1)
        order = self._order(latent, f"activating {split}", windows.documents, windows.starts)
        return [(int(windows.documents[i]), int(cuts[i])) for i in order]

    def _neutral(self, latent: LatentId, split: Split) -> list[tuple[int, int]]:
        """(document, last token), in a random order: of random windows that are inactive all
        over, then of active ones at their silent tokens."""
        sample = self._store.background(split)
        silent = self._store.background_maxima(latent, split) <= 0
        documents, starts = sample.documents[silent], sample.starts[silent]
        order = self._order(latent, f"neutral {split}", documents, starts)
        rng = np.random.default_rng(seed_of(self._store.seed, latent, f"cuts {split}"))
        at = rng.integers(self._store.window, size=len(documents))
        cuts = [(int(documents[i]), int(starts[i] + at[i])) for i in order]
        windows = self._store.windows(latent, split, "sampled")
        for i in self._order(latent, f"silent {split}", windows.documents, windows.starts):
            places = np.flatnonzero(windows.activations[i] <= 0)
            if len(places):
                place = int(windows.starts[i] + rng.choice(places))
                cuts.append((int(windows.documents[i]), place))
        return cuts

    def _order(
        self,
        latent: LatentId,
        purpose: str,
        documents: NDArray[np.int64],
        starts: NDArray[np.int64],
    ) -> NDArray[np.intp]:
        seed = seed_of(self._store.seed, latent, f"prefixes {purpose}")
        return draw(seed, addresses(documents, starts))


def parts(prompts: Sequence[Prompt], vocabulary: int) -> list[Sequence[Prompt]]:
    """The prompts in order, so many at a time that their next-token distributions, each over the
    vocabulary, fit into memory."""
    size = max(1, CHUNK // vocabulary)
    return [prompts[start : start + size] for start in range(0, len(prompts), size)]


class _Taken:
    """What is in a set of prompts already."""

    def __init__(self, store: ExampleStore) -> None:
        self._store = store
        self._documents: Counter[int] = Counter()
        self._seen: set[bytes] = set()

    def first(self, cuts: Sequence[tuple[int, int]], count: int) -> list[Prompt]:
        """The prompts of the first ``count`` cuts that may join the set."""
        found: list[Prompt] = []
        for document, last in cuts:
            if len(found) == count:
                break
            if self._documents[document] >= PER_DOCUMENT:
                continue
            prompt = _prompt(self._store, document, last)
            if len(prompt) >= SHORTEST and prompt.tobytes() not in self._seen:
                self._documents[document] += 1
                self._seen.add(prompt.tobytes())
                found.append(prompt)
        return found


def _prompt(store: ExampleStore, document: int, last: int) -> Prompt:
    """The up to ``LONGEST`` tokens of the row that end at ``last``."""
    longest = min(LONGEST, store.geometry.content - CONTINUED)
    begin = max(store.row_start(document, last), last + 1 - longest)
    return store.tokens(document)[begin : last + 1]
