"""The nouns of the project: latents, examples, explanations, outcomes and scores.

Everything here is plain data. Arrays are numpy; ``window`` is the number of tokens of a
window (32 unless configured).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import repeat
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Split = Literal["explain", "select", "test"]
SPLITS: tuple[Split, ...] = ("explain", "select", "test")

Source = Literal["activating", "random", "token", "neighbour", "semantic"]
HARD_SOURCES: tuple[Source, ...] = ("token", "neighbour", "semantic")

Status = Literal["explained", "no_explanation", "too_few_examples", "dead", "failed", "stopped"]


class AutointerpError(Exception):
    """A mistake of the user's, told in one line: what is wrong, where, and what to do."""


@dataclass(frozen=True, order=True)
class LatentId:
    """One latent: the name its coder has in the run, and its index in that coder."""

    coder: str
    index: int

    def __str__(self) -> str:
        return f"{self.coder}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> LatentId:
        """Read ``layers.1/123``.

        Raises:
            AutointerpError: if the text is not a coder's name, a slash and a number.
        """
        coder, slash, index = text.rpartition("/")
        if not slash or not coder or not index.isdecimal():
            raise AutointerpError(
                f"{text!r} is not a latent; write CODER/INDEX, as in layers.1/123"
            )
        return cls(coder, int(index))


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
        return list(map(self.vocabulary.__getitem__, self.token_ids.tolist()))

    @property
    def left_context(self) -> list[str]:
        return list(map(self.block.vocabulary.__getitem__, self.left_ids.tolist()))

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


@dataclass(frozen=True)
class Cost:
    """What was spent on one explanation or score."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Explanation:
    """What a latent means, in words. ``kind`` tells what it fires on from what it causes.

    ``details`` is what else an explainer has to tell, in JSON's types.
    """

    latent: LatentId
    text: str
    explainer: str
    kind: Literal["input", "output"] = "input"
    status: Status = "explained"
    reason: str | None = None
    components: tuple[str, ...] = ()
    confidence: float | None = None
    cost: Cost = Cost()
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        return f"{self.latent}:{self.kind}:{self.explainer}"


@dataclass(frozen=True)
class Label:
    """A yes/no question: the truth, the judge's answer, and its probability of yes."""

    truth: bool
    label: bool
    probability: float | None
    source: str
    decile: int | None = None


@dataclass(frozen=True)
class Choice:
    """One of ``options``: the index that was right and the one that was chosen."""

    options: int
    truth: int
    chosen: int
    source: str
    decile: int | None = None


@dataclass(frozen=True)
class Values:
    """One number a token: what was true and what was predicted, both of length n."""

    truth: tuple[float, ...]
    predicted: tuple[float, ...]
    source: str
    decile: int | None = None


@dataclass(frozen=True)
class Number:
    """One measured number."""

    value: float
    source: str
    decile: int | None = None


@dataclass(frozen=True)
class Failure:
    """An item that got no usable answer: counted, never dropped and never guessed."""

    reason: str
    source: str
    decile: int | None = None


Outcome = Label | Choice | Values | Number | Failure


@dataclass(frozen=True)
class Metric:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True)
class Score:
    """How an explanation did with one scorer. ``metrics[headline]`` is the one to quote."""

    latent: LatentId
    explanation: str | None  # Explanation.id
    scorer: str
    judge: str
    headline: str
    chance: float
    metrics: Mapping[str, Metric]
    outcomes: Sequence[Outcome]
    status: Literal["scored", "failed", "too_few_examples"] = "scored"
    reason: str | None = None
    cost: Cost = Cost()
    details: Mapping[str, Any] = field(default_factory=dict)
