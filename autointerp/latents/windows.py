"""Windows of text with a latent's activations, and what is told of a latent by them.

``window`` is the number of tokens of a window (32 unless configured).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import repeat
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from autointerp.latents.names import LatentId, Source, Split

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ExampleBlock:
    """Windows of documents with the activations of one latent, as arrays of one row each.

    ``starts`` count the document's tokens, BOS not among them. ``left_ids`` are the tokens
    before each window that the subject saw in the same row, padded on the left with −1.
    ``vocabulary`` maps a token id to its text and is shared by all blocks.
    """

    owner: LatentId
    documents: NDArray[np.int64]  # [n]
    starts: NDArray[np.int64]  # [n]
    token_ids: NDArray[np.int32]  # [n, window]
    activations: NDArray[np.float32]  # [n, window]
    left_ids: NDArray[np.int32]  # [n, ≤ 32]
    vocabulary: Sequence[str] = field(repr=False)

    @cached_property
    def maxima(self) -> NDArray[np.float32]:
        """[n]"""
        maxima: NDArray[np.float32] = self.activations.max(axis=1)
        return maxima

    def examples(self) -> list[Example]:
        # Twice as fast as calling the class, and there are hundreds for every latent.
        return list(map(_EXAMPLE, zip(repeat(self), range(len(self.token_ids)))))


class Example(NamedTuple):
    """One window of a document, with the activations of one latent in it.

    A row of a block: the hundreds of examples that a latent is explained and scored by cost
    next to nothing until they are looked at.
    """

    block: ExampleBlock
    row: int

    @property
    def owner(self) -> LatentId:
        return self.block.owner

    @property
    def document(self) -> int:
        return int(self.block.documents[self.row])

    @property
    def start(self) -> int:
        """In tokens of the document, BOS not among them."""
        return int(self.block.starts[self.row])

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """[window]"""
        ids: NDArray[np.int32] = self.block.token_ids[self.row]
        return ids

    @property
    def activations(self) -> NDArray[np.float32]:
        """[window], the owner's."""
        activations: NDArray[np.float32] = self.block.activations[self.row]
        return activations

    @property
    def left_ids(self) -> NDArray[np.int32]:
        """[≤ 32], the tokens before the window that the subject saw in the same row."""
        left: NDArray[np.int32] = self.block.left_ids[self.row]
        return left[left >= 0]

    @property
    def vocabulary(self) -> Sequence[str]:
        return self.block.vocabulary

    @property
    def tokens(self) -> list[str]:
        block, row = self
        vocabulary = block.vocabulary
        return [vocabulary[i] for i in block.token_ids[row].tolist()]

    @property
    def left_context(self) -> list[str]:
        vocabulary = self.block.vocabulary
        return [vocabulary[i] for i in self.left_ids.tolist()]

    @property
    def maximum(self) -> float:
        return float(self.block.maxima[self.row])


_EXAMPLE = partial(tuple.__new__, Example)


@dataclass(frozen=True, eq=False)
class Background:
    """The windows of the shared background sample that belong to one split.

    One object serves every latent of a run; ``left_ids`` is padded on the left with −1.
    """

    documents: NDArray[np.int64]  # [n]
    starts: NDArray[np.int64]  # [n]
    token_ids: NDArray[np.int32]  # [n, window]
    left_ids: NDArray[np.int32]  # [n, 32]
    vocabulary: Sequence[str] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the whole corpus says of a latent. Activations are in the coder's own units.

    ``density`` is the share of tokens on which it fires, ``mean`` the mean over those;
    ``quantiles`` are those of its active windows' maxima at 0, .1, …, 1 (from the uniform
    sample); ``top_tokens`` the commonest tokens at the peaks of its sampled windows.
    """

    firing_count: int
    density: float
    maximum: float
    mean: float
    quantiles: NDArray[np.float32]  # [11]
    top_tokens: list[tuple[str, int]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that an explainer may see of a latent. EXPLAIN split only.

    ``top`` are the windows with the largest maxima, descending; ``sampled`` a uniform sample
    of active windows, ascending by maximum. ``background_maxima`` has the latent's maximum in
    every window of ``background`` (0 where inactive). ``token_matched`` are windows that hold
    the latent's peak tokens and in which it is inactive.
    """

    latent: LatentId
    statistics: Statistics
    top: list[Example]
    sampled: list[Example]
    token_matched: list[Example]
    background: Background
    background_maxima: NDArray[np.float32]  # [n]
    logit_lens: list[str]


class Item(NamedTuple):
    """One window of a labelled set. ``decile`` is a positive's, 0 (weakest) to q − 1."""

    example: Example
    truth: bool
    source: Source
    decile: int | None = None


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """Windows in which a latent is active or not: SELECT for choosing, TEST for scoring.

    ``unavailable`` names each negative source that had too few windows, with the reason.
    ``shortage`` is None, or why the latent counts as ``too_few_examples``. ``dropped`` counts
    windows left out because they repeat what an explainer was shown.
    """

    latent: LatentId
    split: Split
    items: list[Item]
    unavailable: Mapping[str, str]
    shortage: str | None
    dropped: int


def once_a_vocabulary(make: Callable[[Sequence[str]], T]) -> Callable[[Sequence[str]], T]:
    """What ``make`` makes of a vocabulary, kept for the last one: all windows of a run share it."""
    last: list[tuple[Sequence[str], T]] = []

    def of(vocabulary: Sequence[str]) -> T:
        if not last or last[0][0] is not vocabulary:
            last[:] = [(vocabulary, make(vocabulary))]
        return last[0][1]

    return of


def separator(vocabulary: Sequence[str]) -> str:
    """What joins tokens to text: nothing where tokens bring their own blanks, else a blank."""
    return "" if any(token.startswith(" ") for token in vocabulary) else " "
