"""Sequential scoring: a judge is asked block by block, until enough is known.

Every block has the same mix of strata: one positive of each decile, and as many negatives, half of
them of the headline's source and half hard as far as there are such. Each positive is matched with
a negative, and the mean worth of a pair is the *mixed* balanced accuracy: recall and specificity
over that mix of negatives, halved. The limits of its confidence sequence hold whenever one stops.

Half of a block are positives, so that a prompt must not hold one whole: its texts would give one
another away. Blocks of less than five pairs are therefore asked some at a time, and a prompt holds
five texts at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from math import ceil
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..judges import Judge, Marks
from ..latents import HARD_SOURCES, Explanation, Item, Label, LatentId, Metric, Score, Source
from ..registry import Turns
from ..statistics import ConfidenceSequence, Interval, derived_generator
from .delphi_protocol import ProtocolOptions
from .labels import Answer, ask, label_score

MIXED = "mixed"
GROUPS, PER_GROUP = 10, 5
FEWEST_PAIRS = 5  # that are asked at a time

Room = dict[Source, int]


class BlockOptions(ProtocolOptions):
    """``sequential`` judges block by block, and stops when the limits of the mixed balanced
    accuracy are ``half_width`` from their middle, or clear of ``bar``."""

    sequential: bool = False
    half_width: float = Field(default=0.15, gt=0, lt=0.5)
    bar: float = Field(default=0.7, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_way_at_a_time(self) -> Self:
        if self.sequential and self.protocol != "standard":
            raise ValueError("sequential is for protocol: standard")
        return self

    @property
    def turns(self) -> Turns:
        return Turns(0, 2 * PER_GROUP - 1 if self.sequential else 1)

    @property
    def most_texts(self) -> int | None:
        return FEWEST_PAIRS if self.sequential else None

    def enough(self, interval: Interval) -> bool:
        """Whether the limits say what is to be known."""
        narrow = interval.high - interval.low <= 2 * self.half_width
        return narrow or interval.low > self.bar or interval.high < self.bar


@dataclass(frozen=True)
class Block:
    """The places of as many positives as negatives; those in the same place are a pair."""

    positives: Sequence[int]
    negatives: Sequence[int]


def blocks(
    items: Sequence[Item], latent: LatentId, seed: int, against: Source = "random"
) -> list[Block]:
    """As many blocks as the strata have items for, drawn from (seed, latent)."""
    rng = derived_generator(seed, latent, "blocks")
    mixed = rng.permutation(len(items)).tolist()
    positives = [place for place in mixed if items[place].truth]
    sources = {
        source: [place for place in mixed if items[place].source == source]
        for source in (against, *HARD_SOURCES)
    }
    groups = _groups(positives, items, rng)
    size, most = groups.shape
    for count in range(most, 0, -1):
        room: Room = {source: len(found) // count for source, found in sources.items()}
        mix = _mix(room, size, against)
        if sum(mix.values()) == size:
            return [_block(k, groups, sources, mix, rng) for k in range(count)]
    return []


def _groups(
    positives: Sequence[int], items: Sequence[Item], rng: np.random.Generator
) -> NDArray[np.intp]:
    """[groups, each] the places of positives in groups of one size by decile, each in random
    order: ten, or fewer so that each has five."""
    ranked = np.array(sorted(positives, key=lambda place: items[place].decile or 0), np.intp)
    size = max(1, min(GROUPS, len(ranked) // PER_GROUP))
    each = len(ranked) // size
    kept = ranked[np.arange(size * each) * len(ranked) // max(1, size * each)]
    return np.asarray(rng.permuted(kept.reshape(size, each), axis=1))


def _mix(room: Room, size: int, against: Source) -> Room:
    """How many negatives of each source a block gets: up to half of them hard, by turns.

    ``room`` is the most of each source; where that is too little, there are fewer than ``size``.
    """
    taken: Room = dict.fromkeys(room, 0)
    hard = [source for source in HARD_SOURCES if room[source]]
    most = min(size // 2, sum(room[source] for source in hard))
    for source in cycle(hard):
        if sum(taken.values()) == most:
            break
        taken[source] += taken[source] < room[source]
    taken[against] = min(room[against], size - most)
    return taken


def _block(
    number: int,
    groups: NDArray[np.intp],
    sources: Mapping[Source, Sequence[int]],
    mix: Room,
    rng: np.random.Generator,
) -> Block:
    positives = groups[:, number].tolist()
    parts = [sources[s][number * each : (number + 1) * each] for s, each in mix.items()]
    negatives = [place for part in parts for place in part]
    return Block(positives, [negatives[i] for i in rng.permutation(len(negatives)).tolist()])


async def sequential_score(
    judge: Judge,
    explanation: Explanation,
    items: Sequence[Item],
    options: BlockOptions,
    *,
    seed: int,
    scorer: str,
    marks: Sequence[Marks] | None = None,
    against: Source = "random",
    details: Mapping[str, Any],
) -> Score:
    """Judge block after block until ``options`` have enough.

    The headline is ``mixed``, with the limits of the sequence. The other metrics have none: they
    would be too narrow, since one stops when the answers look clear.
    """
    planned = blocks(items, explanation.latent, seed, against)
    sequence = ConfidenceSequence()
    answers: list[Answer] = []
    asked = 0
    for block in _looks(planned):
        places = [*block.positives, *block.negatives]
        found = await ask(
            judge,
            explanation,
            [items[i] for i in places],
            seed=seed,
            purpose=f"{scorer} block {asked}",
            marks=None if marks is None else [marks[i] for i in places],
        )
        answers += found
        half = len(block.positives)
        asked += half // len(planned[0].positives)
        sequence.add_block([_right(a) for a in found[:half]], [_right(a) for a in found[half:]])
        if options.enough(sequence.interval):
            break
    kept = {**details, "blocks": asked, "of_blocks": len(planned)}
    score = label_score(
        answers, explanation, scorer=scorer, judge=judge.name, against=against, details=kept
    )
    return _with_limits(score, sequence)


def _looks(planned: Sequence[Block]) -> list[Block]:
    """What is asked before each look: a block, or several that have enough pairs together."""
    count = max(1, len(planned) // ceil(FEWEST_PAIRS / len(planned[0].positives)))
    bounds = [len(planned) * look // count for look in range(count + 1)]
    return [_joined(planned[low:high]) for low, high in pairwise(bounds)]


def _joined(several: Sequence[Block]) -> Block:
    return Block(
        [place for block in several for place in block.positives],
        [place for block in several for place in block.negatives],
    )


def _right(answer: Answer) -> bool | None:
    return answer.label == answer.truth if isinstance(answer, Label) else None


def _with_limits(score: Score, sequence: ConfidenceSequence) -> Score:
    metrics = {name: Metric(m.value, n=m.n) for name, m in score.metrics.items()}
    metrics[MIXED] = Metric.of(sequence.interval, len(score.outcomes))
    details = {**score.details, "pairs": sequence.pairs}
    return replace(score, headline=MIXED, metrics=metrics, details=details)
