"""Steering: what a model says next when a latent is pushed up, for many latents together.

What is added is δ = s · J · W_dec[latent], at the coder's output hook, from the last prompt token
on; J is the coder's output de-normalisation at each token. What came earlier stays clean.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError, LatentId
from autointerp.statistics import derived_generator
from autointerp.subject.direction import Direction
from autointerp.subject.directions import Coders, check_direction
from autointerp.subject.gathering import Answer, Gatherer
from autointerp.subject.generation import NOISES, Ask, open_engine
from autointerp.subject.model import Subject
from autointerp.subject.outline import Outline
from autointerp.subject.prefixes import Prompt
from autointerp.subject.rollout import Row
from autointerp.subject.strengths import Strength, search

__all__ = ["Direction", "Steering", "Strength"]

Prompts = Sequence[NDArray[np.int32]]  # token ids without BOS, each at least one
LogProbabilities = NDArray[np.float32]  # [n, vocabulary]

LOT = 64  # requests taken together at most
SEARCHES = 16  # at once: more of them would push each other's prompts out of memory


class Steering:
    """Steers for coroutines; use it as ``async with Steering(…) as steering``.

    What is waiting goes in together when a worker gets free, so that different latents are
    steered in different rows of one batch.

    Args:
        subject: an outline of it, if ``workers`` are given; else all torch work is in one thread
            of this process.
        attached: each coder by name with the hook point it reads and the one it writes (None: the
            same); on the subject's device, unless ``workers`` are given.
        texts: rows of token ids, some hundreds of them, from which random directions learn the
            covariance of what is at a hook. Needed only for those.
        seed: what sampled tokens and random directions derive from, with what they are for.
        workers: who steers, each in a thread of its own, as :meth:`Engine.answer` does of an
            engine with the same seed and texts.
    """

    def __init__(
        self,
        subject: Subject | Outline,
        attached: Coders,
        *,
        seed: int = 0,
        texts: Prompts = (),
        workers: Sequence[Answer[Ask, Any]] = (),
    ) -> None:
        self._subject, self._seed = subject, seed
        self._attached, self._can_mix = attached, any(map(len, texts))
        if not workers:
            workers = [open_engine(_whole(subject), attached, texts, seed).answer]
        self._gatherer: Gatherer[Ask, Any] = Gatherer(workers, "steering", lot=LOT)
        self._searches = asyncio.Semaphore(SEARCHES * len(workers))
        self._found: dict[tuple[Direction, bytes, float], asyncio.Task[Strength]] = {}
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is waiting, let the batches under way end, and end the threads."""
        self._open = False
        for task in self._found.values():
            task.cancel()
        await self._gatherer.aclose()

    def is_signed(self, coder: str) -> bool:
        """Whether a coder's activations may be negative: steering either way is then an effect."""
        return self._attached[coder][0].is_signed

    async def strength(
        self, direction: Direction, prompts: Prompts, target: float = 1.0
    ) -> Strength:
        """The first strength at which the mean KL(clean ‖ steered) is within 5 % of ``target``.

        Searched for once for each direction, prompts and target.

        Raises:
            AutointerpError: if there is no such latent, or a prompt does not fit.
        """
        keys = self._prompts(direction, prompts)
        key = direction, _digest(keys), target
        if key not in self._found:
            self._found[key] = asyncio.create_task(self._search(direction, keys, target))
        try:
            return await asyncio.shield(self._found[key])
        except AutointerpError:
            self._found.pop(key, None)
            raise

    async def peaks(self, latent: LatentId, prompts: Prompts) -> NDArray[np.float64]:
        """The largest activation, in size, of any latent of this one's coder at each prompt's last
        token: [n]."""
        direction = Direction(latent)
        rows = tuple(Row(key, direction) for key in self._prompts(direction, prompts))
        return np.array(await self._ask(Ask("peak", rows)))

    async def kl(self, direction: Direction, s: float, prompts: Prompts) -> float:
        """Mean over the prompts of KL(clean ‖ steered) of the next token, in nats."""
        (mean,) = await self._kls(direction, [s], self._prompts(direction, prompts))
        return mean

    async def next_tokens(
        self, direction: Direction, s: float, prompts: Prompts
    ) -> tuple[LogProbabilities, LogProbabilities]:
        """Clean and steered log-probabilities of the next token, each [n, vocabulary]."""
        return await self._beside_clean(direction, s, prompts)

    async def ablated(
        self, latent: LatentId, prompts: Prompts
    ) -> tuple[LogProbabilities, LogProbabilities]:
        """The same with the latent's own part taken away at the last prompt token."""
        return await self._beside_clean(Direction(latent), math.nan, prompts)

    async def continuations(
        self,
        direction: Direction | None,
        s: float,
        prompts: Prompts,
        tokens: int = 8,
        temperature: float = 1.0,
        purpose: str = "",
        *,
        noise_of: LatentId | None = None,
    ) -> list[NDArray[np.int32]]:
        """A sampled continuation of each prompt, at most ``tokens`` long and without EOS.

        ``direction`` None gives clean ones. The noise derives from (seed, ``noise_of`` or else
        the direction's latent, ``purpose``, the prompt, which of its copies in ``prompts``, the
        step): name the scored latent in ``noise_of`` on both sides of a pair, and they share it.
        """
        owner = noise_of if noise_of or direction is None else direction.latent
        rows, copies = [], Counter[Prompt]()
        for prompt in self._prompts(direction, prompts, tokens):
            parts = owner, purpose, prompt.hex(), copies[prompt]
            generator = derived_generator(self._seed, "sampling", *parts)
            noise = tuple(generator.integers(0, NOISES, tokens).tolist())
            copies[prompt] += 1
            rows.append(Row(prompt, direction, s, temperature, noise))
        texts: list[NDArray[np.int32]] = await self._ask(Ask("text", tuple(rows), tokens))
        return texts

    async def _search(
        self, direction: Direction, prompts: tuple[Prompt, ...], target: float
    ) -> Strength:
        async with self._searches:
            rows = tuple(Row(prompt, direction) for prompt in prompts)
            unit = float(np.mean(await self._ask(Ask("unit", rows))))
            if unit == 0:  # a direction without length changes nothing
                return Strength(0.0, 0.0, False)

            async def measure(ratios: Sequence[float]) -> list[float]:
                return await self._kls(direction, [ratio * unit for ratio in ratios], prompts)

            return await search(measure, unit, target)

    async def _kls(
        self, direction: Direction, strengths: Sequence[float], prompts: Sequence[Prompt]
    ) -> list[float]:
        """Mean KL over the prompts at each strength."""
        rows = tuple(Row(prompt, direction, s) for s in strengths for prompt in prompts)
        found = np.reshape(await self._ask(Ask("kl", rows)), (len(strengths), len(prompts)))
        return [float(mean) for mean in found.mean(1)]

    async def _beside_clean(
        self, direction: Direction, s: float, prompts: Prompts
    ) -> tuple[LogProbabilities, LogProbabilities]:
        keys = self._prompts(direction, prompts)
        rows = [*(Row(key) for key in keys), *(Row(key, direction, s) for key in keys)]
        found = np.stack(await self._ask(Ask("next", tuple(rows))))
        return found[: len(keys)], found[len(keys) :]

    async def _ask(self, ask: Ask) -> Any:
        (answer,) = await self._gatherer.ask([ask])
        return answer

    def _prompts(
        self, direction: Direction | None, prompts: Prompts, tokens: int = 1
    ) -> tuple[Prompt, ...]:
        """The prompts as keys, after a look at what is asked for."""
        if not self._open:
            raise RuntimeError("Steering steers only inside its `async with`")
        if direction is not None:
            check_direction(direction, self._attached, self._can_mix)
        if len(prompts) == 0 or not all(map(len, prompts)):
            raise AutointerpError("steering needs prompts, each of at least one token")
        longest = max(map(len, prompts)) + int(self._subject.bos_id is not None) + tokens - 1
        if longest > self._subject.context_length:
            raise AutointerpError(
                f"a prompt and what follows take {longest} tokens and the context has"
                f" {self._subject.context_length}; raise subject.context_length"
            )
        return tuple(np.ascontiguousarray(prompt, np.int32).tobytes() for prompt in prompts)


def _whole(subject: Subject | Outline) -> Subject:
    if not isinstance(subject, Subject):
        raise RuntimeError("steering without workers needs the subject itself, not its outline")
    return subject


def _digest(prompts: Sequence[Prompt]) -> bytes:
    lengths = np.array([len(prompt) for prompt in prompts]).tobytes()
    return hashlib.blake2b(lengths + b"".join(prompts), digest_size=16).digest()
