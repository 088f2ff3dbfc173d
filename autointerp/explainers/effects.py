"""The explainer of what a latent causes: the tokens that steering with it makes likelier.

The latent's direction is added to the subject at the strength at which the next-token distribution
moves by a given KL divergence, on SELECT prompts; the explanation is written from the tokens whose
mean probability rises most. The same pipeline writes explanations of random directions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from autointerp.examples.prefixes import Prefixes, Prompt, parts
from autointerp.explainers.single_pass import DESCRIPTION_WORDS, LABEL_WORDS, text_of
from autointerp.judges.windows import quoted
from autointerp.latents import Evidence, Explanation, LabelledSet, LatentId
from autointerp.latents.scales import Scale
from autointerp.llm.client import LLMClient, LLMFailure
from autointerp.llm.templates import Templates, ask
from autointerp.patterns import Clause, Pattern, Token
from autointerp.registry import Options, explainers
from autointerp.subject.direction import Direction
from autointerp.subject.strengths import Strength

FEWEST = 16  # prompts that an effect is measured on
SHOWN = 20  # tokens that a language model is shown
LEAST = 0.1  # of the largest rise, for a token to be named in a pattern
_DIGITS = 5  # of a mean probability: the last ones depend on what else was in a batch


class EffectsOptions(Options):
    """How the effect is measured and who words it.

    ``target`` is the mean KL divergence in nats between the clean and the steered next-token
    distribution, over ``prompts`` SELECT prompts. ``roles: pattern`` lists up to ``tokens``
    promoted tokens; ``llm`` has the language model of that name put them into words.
    """

    roles: Literal["pattern", "llm"] = "pattern"
    llm: str = "explainer"
    target: float = Field(default=1.0, gt=0)
    prompts: int = Field(default=64, ge=FEWEST)
    tokens: int = Field(default=10, ge=1, le=20)
    max_tokens: int = Field(default=512, ge=1)

    def needs(self) -> frozenset[str]:
        asking = {"client", "templates"} if self.roles == "llm" else set()
        return frozenset({"steering", "prefixes"} | asking)


class Steers(Protocol):
    """What the explainer asks of ``subject.steering.Steering``."""

    def is_signed(self, coder: str) -> bool: ...

    async def strength(
        self, direction: Direction, prompts: Sequence[Prompt], target: float
    ) -> Strength: ...

    async def next_tokens(
        self, direction: Direction, s: float, prompts: Sequence[Prompt]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


class Effect(BaseModel):
    """A reply."""

    description: Annotated[str, text_of(DESCRIPTION_WORDS)]
    label: Annotated[str, text_of(LABEL_WORDS)]


@dataclass(frozen=True, eq=False)
class Rises:
    """The tokens whose mean probability rises most, the steepest first."""

    tokens: list[str]
    clean: NDArray[np.float64]  # [n], mean probability
    steered: NDArray[np.float64]  # [n]

    @property
    def promoted(self) -> list[str]:
        """Those that rise by a tenth of the steepest rise or more."""
        rise = self.steered - self.clean
        least = LEAST * rise.max(initial=0.0)
        return [t for t, r in zip(self.tokens, rise, strict=True) if r > 0 and r >= least]


@explainers.register("effects", EffectsOptions)
class EffectsExplainer:
    """Writes ``output`` explanations; one explainer serves a run, and shares its strengths."""

    name = "effects"
    writes = "output"

    def __init__(
        self,
        options: EffectsOptions | None = None,
        seed: int = 0,
        *,
        steering: Steers,
        prefixes: Prefixes,
        client: LLMClient | None = None,
        templates: Templates | None = None,
    ) -> None:
        self.options = options or EffectsOptions()
        self.seed = seed
        self.steering = steering
        self.prefixes = prefixes
        self._client = client
        self._templates = templates
        self._strengths: dict[tuple[Direction, LatentId], asyncio.Task[Strength]] = {}

    @property
    def target(self) -> float:
        """The wanted KL divergence, in nats."""
        return self.options.target

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
        """What the latent causes; ``no_explanation`` if no strength reaches the target.

        Neither the evidence's windows nor ``selection`` are looked at. Of a latent whose
        activations may be negative, ``details`` have the effect of steering the other way as
        ``negative``.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        latent = evidence.latent
        if not evidence.statistics.firing_count:
            return self._none(latent, "dead", "it never fired")
        found = len(self.select_prompts(latent))
        if found < FEWEST:
            few = f"{found} SELECT prompts; {FEWEST} are needed"
            return self._none(latent, "too_few_examples", few)
        scale = Scale.of_evidence(evidence)
        if not self.steering.is_signed(latent.coder):
            return await self.write(Direction(latent), scale)
        own, other = await asyncio.gather(
            self.write(Direction(latent), scale), self.write(Direction(latent, sign=-1.0), scale)
        )
        negative = {**other.details, "text": other.text, "reason": other.reason}
        return replace(own, details={**own.details, "negative": negative})

    def select_prompts(self, latent: LatentId) -> list[Prompt]:
        """The SELECT prompts of a latent, on which its strengths are found."""
        return self.prefixes.of(latent, "select", self.options.prompts).all

    async def strength(self, direction: Direction, on: LatentId | None = None) -> Strength:
        """The strength that reaches the target on the SELECT prompts of the direction's latent, or
        of another one that it is to be compared with; found once."""
        key = direction, on or direction.latent
        if key not in self._strengths:
            prompts = self.select_prompts(key[1])
            search = self.steering.strength(direction, prompts, self.target)
            self._strengths[key] = asyncio.ensure_future(search)
        # One who is cancelled must not take the search from those who wait for it too.
        return await asyncio.shield(self._strengths[key])

    async def write(self, direction: Direction, scale: Scale | None = None) -> Explanation:
        """Explain the effect of a direction, a latent's or a random one.

        ``details`` have the strength, that over the strong activations of ``scale``, and the size
        of what it adds over that of what it is added to.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        latent = direction.latent
        strength = await self.strength(direction)
        details = {
            "strength": strength.s,
            "over_maximum": strength.s / scale.strong if scale else None,
            "over_state": strength.ratio,
            "kl": strength.kl,
            "target": self.options.target,
        }
        if not strength.reachable:
            reason = f"unreachable: the KL divergence saturates at {strength.kl:.3g} nats"
            return replace(self._none(latent, "no_explanation", reason), details=details)
        rises = await self._rises(direction, strength.s)
        return replace(await self._worded(latent, rises), details={**details, **_shown(rises)})

    def _none(self, latent: LatentId, status: Any, reason: str) -> Explanation:
        return Explanation(latent, "", self.name, kind="output", status=status, reason=reason)

    async def _rises(self, direction: Direction, s: float) -> Rises:
        vocabulary = self.prefixes.vocabulary
        prompts = self.select_prompts(direction.latent)
        totals = np.zeros((2, 0))
        for part in parts(prompts, len(vocabulary)):
            pair = await self.steering.next_tokens(direction, s, part)
            sums = np.stack([np.exp(x.astype(np.float64)).sum(axis=0) for x in pair])
            totals = sums if not totals.size else totals + sums
        clean, steered = np.round(totals / len(prompts), _DIGITS)
        order = np.argsort(clean - steered, kind="stable")
        # A model may have more outputs than its tokenizer has tokens.
        named = [i for i in order[: 2 * SHOWN].tolist() if i < len(vocabulary) and vocabulary[i]]
        named = named[:SHOWN]
        return Rises([vocabulary[i] for i in named], clean[named], steered[named])

    async def _worded(self, latent: LatentId, rises: Rises) -> Explanation:
        promoted = list(dict.fromkeys(rises.promoted))
        if not promoted:
            return self._none(latent, "no_explanation", "no token gets likelier")
        if self.options.roles == "llm":
            return await self._asked(latent, rises)
        pattern = Pattern((Clause(tuple(map(Token, promoted[: self.options.tokens]))),))
        return Explanation(latent, str(pattern), self.name, kind="output")

    async def _asked(self, latent: LatentId, rises: Rises) -> Explanation:
        assert self._client is not None
        assert self._templates is not None
        try:
            effect, _ = await ask(
                self._client,
                self._templates,
                "explainer/effects",
                Effect,
                {"tokens": _lines(rises)},
                max_tokens=self.options.max_tokens,
                purpose="explainer.effects",
            )
        except LLMFailure as failure:
            return self._none(latent, "failed", failure.reason)
        return Explanation(latent, effect.description, self.name, kind="output")


def _shown(rises: Rises) -> dict[str, Any]:
    """The table that the explanation was written from, in JSON's types."""
    rows = zip(rises.tokens, rises.clean.tolist(), rises.steered.tolist(), strict=True)
    return {"promoted": [list(row) for row in rows]}


def _lines(rises: Rises) -> list[dict[str, str]]:
    """What a prompt shows: each promoted token, quoted, and its probability in per cent."""
    rows = zip(rises.tokens, rises.clean, rises.steered, strict=True)
    return [
        {"text": quoted(token), "clean": f"{before:.2%}", "steered": f"{after:.2%}"}
        for token, before, after in rows
        if after > before
    ]
