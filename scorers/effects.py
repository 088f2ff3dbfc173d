"""What scorers share that measure or judge what steering with a latent does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..examples.prefixes import Prefixes, Prompt, parts
from ..latents import Explanation, LatentId
from ..subject.direction import Direction
from ..subject.strengths import Strength

if TYPE_CHECKING:  # it imports torch
    from ..subject.steering import Steering

TIE = 1e-4  # nats: what a batch's other rows may change
EQUAL = (0.5, 2.0)  # of the target: a KL divergence outside is no longer equal


class Effects(Protocol):
    """The pipeline that writes output explanations, with all that it measures by."""

    steering: Steering
    prefixes: Prefixes

    @property
    def target(self) -> float:
        """The wanted KL divergence, in nats."""
        ...

    async def strength(self, direction: Direction, on: LatentId | None = None) -> Strength:
        """The strength that reaches the target on the SELECT prompts of the direction's latent, or
        of another one that it is to be compared with; found once."""
        ...

    async def write(self, direction: Direction) -> Explanation:
        """Explain the effect of a direction, a latent's or a random one."""
        ...


async def rises(
    effects: Effects,
    direction: Direction,
    s: float,
    prompts: Sequence[Prompt],
    sets: Sequence[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """By how many nats the probability of each set of tokens [vocabulary] rises at each prompt
    when ``s`` times the direction is added: [sets, n]."""
    measured = []
    for part in parts(prompts, len(effects.prefixes.vocabulary)):
        measured.append(compared(*await effects.steering.next_tokens(direction, s, part), sets))
    return np.concatenate([np.zeros((len(sets), 0)), *measured], axis=1)


async def rises_without(
    effects: Effects,
    latent: LatentId,
    prompts: Sequence[Prompt],
    sets: Sequence[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """The same when the latent's own part is taken away."""
    measured = []
    for part in parts(prompts, len(effects.prefixes.vocabulary)):
        measured.append(compared(*await effects.steering.ablated(latent, part), sets))
    return np.concatenate([np.zeros((len(sets), 0)), *measured], axis=1)


def compared(
    clean: NDArray[np.float32], steered: NDArray[np.float32], sets: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """The rises of sets of tokens between log probabilities [n, vocabulary]: [sets, n]."""
    before, after = clean.astype(np.float64), steered.astype(np.float64)
    found = [_mass(after, named) - _mass(before, named) for named in sets]
    return np.array(found).reshape(len(sets), len(clean))


def _mass(logprobs: NDArray[np.float64], named: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[n] the logarithm of the probability of a set of tokens; 0 for an empty set."""
    # A model may have more outputs than its tokenizer has tokens.
    chosen = logprobs[:, : len(named)][:, named[: logprobs.shape[1]]]
    if not chosen.shape[1]:
        return np.zeros(len(logprobs))
    top = chosen.max(axis=1, keepdims=True)
    mass: NDArray[np.float64] = top[:, 0] + np.log(np.exp(chosen - top).sum(axis=1))
    return mass


def is_equal(ratio: float) -> bool:
    """Whether a KL divergence at this multiple of the target may be compared with others at it."""
    low, high = EQUAL
    return low <= ratio <= high


def better(first: float, second: float) -> float:
    """1 if the first is larger, 0 if the second is, and ½ for a tie."""
    return 0.5 if abs(first - second) <= TIE else float(first > second)
