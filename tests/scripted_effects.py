"""Effects whose every number is known: what tests of scorers that steer need of a subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.prefixes import Prompt, Prompts
from autointerp.latents import Explanation, LatentId
from autointerp.statistics import derived_generator
from autointerp.subject.direction import Direction
from autointerp.subject.strengths import Strength

VOCABULARY = [f" w{i}" for i in range(5000)]
SPLITS = ("explain", "select", "test")
NEUTRAL, ACTIVATING = 0, 1  # last tokens
LENGTH = 20  # tokens of a prompt

Moves = Callable[[Direction, Prompt], float]


def latent(index: int) -> LatentId:
    return LatentId("c", index)


def peers(count: int) -> list[Explanation]:
    """Explanations of the first latents, no two of them alike."""
    return [Explanation(latent(i), f"text {i}", "by hand", kind="output") for i in range(count)]


def is_neutral(prompt: Prompt) -> bool:
    return bool(prompt[-1] == NEUTRAL)


def split_of(prompt: Prompt) -> str:
    return SPLITS[int(prompt[0])]


@dataclass
class ScriptedSteering:
    """Steering by s moves a prompt by s² times what ``moves`` says, in nats.

    Continuations are random words after the ``theme`` of their direction, if it has one. Next
    tokens become token 1, and the surer the larger s.
    """

    moves: Moves
    theme: Callable[[Direction | None], str | None]

    def is_signed(self, coder: str) -> bool:
        return False

    async def strength(
        self, direction: Direction, prompts: Sequence[Prompt], target: float
    ) -> Strength:
        moved = self._mean(direction, prompts)
        return Strength(math.sqrt(target / moved), target, True, 0.25)

    async def kl(self, direction: Direction, s: float, prompts: Sequence[Prompt]) -> float:
        return s * s * self._mean(direction, prompts)

    def _mean(self, direction: Direction, prompts: Sequence[Prompt]) -> float:
        return float(np.mean([self.moves(direction, prompt) for prompt in prompts]))

    async def next_tokens(
        self, direction: Direction, s: float, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        clean = np.full((len(prompts), 4), 0.25, np.float32)
        steered = np.full((len(prompts), 4), 0.05 / s, np.float32)
        steered[:, 1] = 1 - 0.15 / s
        return np.log(clean), np.log(steered)

    async def continuations(
        self,
        direction: Direction | None,
        s: float,
        prompts: Sequence[Prompt],
        tokens: int,
        temperature: float,
        purpose: str,
        *,
        noise_of: LatentId | None = None,
    ) -> list[NDArray[np.int32]]:
        head = self.theme(direction)
        start = [] if head is None else [VOCABULARY.index(head)]
        found = []
        for prompt in prompts:
            rng = derived_generator(0, direction, prompt.tolist())
            words = rng.integers(len(VOCABULARY), size=tokens).tolist()
            found.append(np.array([*start, *words], np.int32)[:tokens])
        return found


@dataclass
class ScriptedPrefixes:
    """As many prompts as are asked for, half of them neutral."""

    vocabulary: Sequence[str] = field(default_factory=lambda: VOCABULARY)

    def of(self, latent: LatentId, split: str, count: int) -> Prompts:
        rng = derived_generator(0, latent, split)
        rows = rng.integers(2, len(VOCABULARY), (count, LENGTH)).astype(np.int32)
        rows[:, 0] = SPLITS.index(split)
        half = count - count // 2
        rows[:half, -1], rows[half:, -1] = NEUTRAL, ACTIVATING
        return Prompts(list(rows[:half]), list(rows[half:]))


class ScriptedEffects:
    """The explainer of effects over scripted steering: all directions reach the target."""

    target = 1.0

    def __init__(
        self,
        moves: Moves = lambda direction, prompt: 1.0,
        theme: Callable[[Direction | None], str | None] = lambda direction: None,
    ) -> None:
        self.steering = ScriptedSteering(moves, theme)
        self.prefixes = ScriptedPrefixes()

    async def strength(self, direction: Direction, on: LatentId | None = None) -> Strength:
        prompts = self.prefixes.of(on or direction.latent, "select", 64).all
        return await self.steering.strength(direction, prompts, self.target)

    async def write(self, direction: Direction) -> Explanation:
        text = f"effect of random direction {direction.random}"
        return Explanation(direction.latent, text, "by hand", kind="output")
