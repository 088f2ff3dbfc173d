"""Output score: does steering with the latent make its logit-lens tokens likelier?

At neutral TEST prompts and equal KL: (1 − best rank / V) · largest probability among the latent's
top logit-lens tokens, steered, less that of random directions at the same KL. After Arad et al.,
"SAEs are good for steering, if you select the right features", 2025, who steer one prompt with
ten times the largest activation and compare with nothing: that is ``protocol: published``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
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
from . import Materials
from .effects import Effects

HEADLINES = {"standard": "over_random", "published": "steered"}
FEWEST = 8  # neutral prompts
TOKENS = 20  # of the logit lens
TIMES = 10  # the largest activation is the published strength

Values = Mapping[str, NDArray[np.float64]]  # [n], by what was done to the subject


class OutputScoreOptions(Options):
    """``prompts`` neutral TEST prompts; the value of ``random`` directions is their mean.

    ``protocol: published`` heeds neither: at the last token of one neutral TEST prompt it adds the
    latent with ten times the largest activation that any latent of the coder has there.
    """

    protocol: Literal["standard", "published"] = "standard"
    prompts: int = Field(default=16, ge=FEWEST)
    random: int = Field(default=4, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"effects"})


@scorers.register("output_score", OutputScoreOptions)
class OutputScorer:
    """Scores the latent, not a text. ``over_clean`` is the rise over the subject left alone."""

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
        prompts = effects.prefixes.of(latent, "test", 2 * self.options.prompts).neutral
        own = Direction(latent)
        shortage = await self._shortage(own, len(prompts))
        if shortage is not None:
            return self._score(materials, reason=shortage)
        prompts = prompts[: self.options.prompts]
        clean, steered = await self._values(own, prompts, lens)
        random = await asyncio.gather(
            *(self._values(Direction(latent, i), prompts, lens) for i in range(self.options.random))
        )
        chance = np.mean([value for _, value in random], axis=0)
        values = {"steered": steered, "clean": clean, "random": chance}
        metrics = _means(values) | {"over_random": self._mean(steered - chance)}
        metrics |= {"over_clean": self._mean(steered - clean)}
        return self._score(materials, metrics, values)

    async def _shortage(self, own: Direction, prompts: int) -> str | None:
        """Why the latent cannot be scored, if it cannot."""
        if prompts < FEWEST:
            return f"{prompts} neutral TEST prompts; {FEWEST} are needed"
        strength = await self._effects.strength(own)
        if not strength.reachable:
            return f"unreachable: the KL divergence saturates at {strength.kl:.3g} nats"
        return None

    async def _values(
        self, direction: Direction, prompts: Sequence[Prompt], lens: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """[n] the value of every prompt, clean and steered."""
        s = (await self._effects.strength(direction)).s
        found = []
        for part in parts(prompts, len(self._effects.prefixes.vocabulary)):
            pair = await self._effects.steering.next_tokens(direction, s, part)
            found.append(np.stack([output_value(logprobs, lens) for logprobs in pair]))
        clean, steered = np.concatenate(found, axis=1)
        return clean, steered

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
