"""Output score: does steering with the latent make its logit-lens tokens likelier?

At neutral TEST prompts and equal KL: (1 − best rank / V) · largest probability among the latent's
top logit-lens tokens, steered, less that of random directions at the same KL. After Arad et al.,
"SAEs are good for steering, if you select the right features", 2025, who steer one prompt with
ten times the largest activation and compare with nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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

HEADLINE = "over_random"
FEWEST = 8  # neutral prompts
TOKENS = 20  # of the logit lens


class OutputScoreOptions(Options):
    """``prompts`` neutral TEST prompts; the value of ``random`` directions is their mean."""

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
        effects, latent = self._effects, materials.latent
        prompts = effects.prefixes.of(latent, "test", 2 * self.options.prompts).neutral
        lens = lens_tokens(materials, effects.prefixes.vocabulary)
        own = Direction(latent)
        shortage = await self._shortage(own, len(prompts), len(lens))
        if shortage is not None:
            return _score(materials, reason=shortage)
        prompts = prompts[: self.options.prompts]
        clean, steered = await self._values(own, prompts, lens)
        random = await asyncio.gather(
            *(self._values(Direction(latent, i), prompts, lens) for i in range(self.options.random))
        )
        chance = np.mean([value for _, value in random], axis=0)
        values = {"steered": steered, "clean": clean, "random": chance}
        metrics = {name: Metric(float(v.mean()), n=len(v)) for name, v in values.items()}
        metrics |= {HEADLINE: self._mean(steered - chance)}
        metrics |= {"over_clean": self._mean(steered - clean)}
        return _score(materials, metrics, values)

    async def _shortage(self, own: Direction, prompts: int, tokens: int) -> str | None:
        """Why the latent cannot be scored, if it cannot."""
        if not tokens:
            return "the logit lens names no tokens"
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


def _score(
    materials: Materials,
    metrics: dict[str, Metric] | None = None,
    values: dict[str, NDArray[np.float64]] | None = None,
    reason: str | None = None,
) -> Score:
    named = (values or {}).items()
    return Score(
        latent=materials.latent,
        explanation=None,
        scorer="output_score",
        judge="",
        headline=HEADLINE,
        chance=0.0,
        metrics=metrics or {},
        outcomes=[Number(value, source) for source, of in named for value in of.tolist()],
        status="scored" if reason is None else "too_few_examples",
        reason=reason,
    )
