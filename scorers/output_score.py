"""Output score: does steering with the latent make its logit-lens tokens likelier?

At neutral TEST prompts: (1 − best rank / V) · largest probability among the latent's top logit-lens
tokens, steered, less that of random directions at the same KL divergence. After Arad et al.,
"SAEs are good for steering, if you select the right features", 2025, who steer one prompt with
ten times the largest activation and compare with nothing: that is ``protocol: published``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..examples.prefixes import Prompt, parts
from ..latents import Explanation, Metric, Number, Score
from ..patterns import Lexicon
from ..registry import Options, scorers
from ..statistics import bootstrap_mean
from ..subject.direction import Direction
from ..subject.strengths import Strength
from . import Materials
from .effects import Effects, is_equal

HEADLINES = {"standard": "over_random", "published": "steered"}
FEWEST = 8  # neutral prompts
SELECTED = 64  # neutral SELECT prompts, on which strengths are found
TOKENS = 20  # of the logit lens
TIMES = 10  # the largest activation is the published strength

Values = Mapping[str, NDArray[np.float64]]  # [n], by what was done to the subject


class OutputScoreOptions(Options):
    """``prompts`` neutral TEST prompts; the value of ``random`` directions is the mean over those
    whose KL divergence there is still equal.

    ``protocol: published`` heeds neither: at the last token of one neutral TEST prompt it adds the
    latent with ten times the largest activation that any latent of the coder has there.
    """

    protocol: Literal["standard", "published"] = "standard"
    prompts: int = Field(default=16, ge=FEWEST)
    random: int = Field(default=4, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"effects"})


@dataclass(frozen=True, eq=False)
class Steered:
    """What one direction does at the TEST prompts."""

    clean: NDArray[np.float64]  # [n] values
    steered: NDArray[np.float64]  # [n]
    strength: Strength  # found on SELECT
    ratio: float  # of the mean KL divergence here to the target

    @property
    def is_equal(self) -> bool:
        """Whether it may be compared with others at the target KL divergence."""
        return self.strength.reachable and is_equal(self.ratio)

    @property
    def why(self) -> str:
        """Why it may not be."""
        if not self.strength.reachable:
            return f"unreachable: the KL divergence saturates at {self.strength.kl:.3g} nats"
        return f"on TEST the latent's KL divergence is {self.ratio:.2f} of the target"


@scorers.register("output_score", OutputScoreOptions)
class OutputScorer:
    """Scores the latent, not a text. ``over_clean`` is the rise over the subject left alone.

    ``kl_ratio`` is the latent's KL divergence at the TEST prompts over the target; far from 1, the
    latent is not scored. ``unequal`` counts the random directions left out for theirs.
    """

    reads: Literal["input", "output"] | None = None

    def __init__(
        self, options: OutputScoreOptions | None = None, seed: int = 0, *, effects: Effects
    ) -> None:
        self.options = options or OutputScoreOptions()
        self.seed = seed
        self._effects = effects

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        lens = lens_tokens(materials, self._effects.prefixes.vocabulary)
        if not lens:
            return self._score(materials, reason="the logit lens names no tokens")
        if self.options.protocol == "published":
            return await self._published(materials, lens)
        return await self._standard(materials, lens)

    async def _published(self, materials: Materials, lens: Sequence[int]) -> Score:
        effects, latent = self._effects, materials.latent
        prompts = effects.prefixes.of(latent, "test", 2).neutral[:1]
        if not prompts:
            return self._score(materials, reason="there is no neutral TEST prompt")
        (largest,) = await effects.steering.peaks(latent, prompts)
        pair = await effects.steering.next_tokens(Direction(latent), TIMES * largest, prompts)
        clean, steered = (output_value(logprobs, lens) for logprobs in pair)
        values = {"steered": steered, "clean": clean}
        return self._score(materials, _means(values), values)

    async def _standard(self, materials: Materials, lens: Sequence[int]) -> Score:
        effects, latent = self._effects, materials.latent
        count = self.options.prompts
        prompts = effects.prefixes.of(latent, "test", 2 * count).neutral[:count]
        select = effects.prefixes.of(latent, "select", 2 * SELECTED).neutral[:SELECTED]
        for split, found in (("TEST", prompts), ("SELECT", select)):
            if len(found) < FEWEST:
                few = f"{len(found)} neutral {split} prompts; {FEWEST} are needed"
                return self._score(materials, reason=few)
        own = await self._steered(Direction(latent), select, prompts, lens)
        metrics = {"kl_ratio": Metric(own.ratio, n=len(prompts))}
        if not own.is_equal:
            return self._score(materials, metrics, reason=own.why)
        numbers = range(self.options.random)
        random = await asyncio.gather(
            *(self._steered(Direction(latent, i), select, prompts, lens) for i in numbers)
        )
        equal = [one.steered for one in random if one.is_equal]
        metrics["unequal"] = Metric(float(len(random) - len(equal)), n=len(random))
        if not equal:
            none = "no random direction is at the same KL divergence on TEST"
            return self._score(materials, metrics, reason=none)
        values = {"steered": own.steered, "clean": own.clean, "random": np.mean(equal, axis=0)}
        metrics |= _means(values)
        for name in ("random", "clean"):
            metrics[f"over_{name}"] = self._mean(own.steered - values[name])
        return self._score(materials, metrics, values)

    async def _steered(
        self,
        direction: Direction,
        select: Sequence[Prompt],
        prompts: Sequence[Prompt],
        lens: Sequence[int],
    ) -> Steered:
        """What a direction does at the prompts, at the strength found on those of SELECT."""
        effects = self._effects
        strength = await effects.steering.strength(direction, select, effects.target)
        kl = await effects.steering.kl(direction, strength.s, prompts)
        found = []
        for part in parts(prompts, len(effects.prefixes.vocabulary)):
            pair = await effects.steering.next_tokens(direction, strength.s, part)
            found.append(np.stack([output_value(logprobs, lens) for logprobs in pair]))
        clean, steered = np.concatenate(found, axis=1)
        return Steered(clean, steered, strength, kl / effects.target)

    def _mean(self, values: NDArray[np.float64]) -> Metric:
        interval = bootstrap_mean(values, [""] * len(values), seed=self.seed)
        return Metric(interval.value, interval.low, interval.high, len(values))

    def _score(
        self,
        materials: Materials,
        metrics: dict[str, Metric] | None = None,
        values: Values | None = None,
        reason: str | None = None,
    ) -> Score:
        named = (values or {}).items()
        return Score(
            latent=materials.latent,
            explanation=None,
            scorer="output_score",
            judge="",
            headline=HEADLINES[self.options.protocol],
            chance=0.0,
            metrics=metrics or {},
            outcomes=[Number(value, source) for source, of in named for value in of.tolist()],
            status="scored" if reason is None else "too_few_examples",
            reason=reason,
        )


def lens_tokens(materials: Materials, vocabulary: Sequence[str]) -> list[int]:
    """The ids of the latent's top logit-lens tokens; of all tokens that read alike."""
    texts = materials.evidence.logit_lens[:TOKENS] if materials.evidence else []
    lexicon = Lexicon(vocabulary)
    return sorted({i for text in texts for i in lexicon.ids(text)})


def output_value(logprobs: NDArray[np.float32], lens: Sequence[int]) -> NDArray[np.float64]:
    """(1 − best rank / V) · largest probability among the tokens ``lens``, of ``logprobs``
    [n, V]: [n]. The likeliest token has rank 0."""
    best = logprobs[:, list(lens)].max(axis=1)
    rank = (logprobs > best[:, None]).sum(axis=1)
    value: NDArray[np.float64] = (1 - rank / logprobs.shape[1]) * np.exp(best.astype(np.float64))
    return value


def _means(values: Values) -> dict[str, Metric]:
    return {name: Metric(float(v.mean()), n=len(v)) for name, v in values.items()}
