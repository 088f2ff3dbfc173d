"""Intervention: does steering with the latent bring about what the explanation of its effect says?

At each TEST prompt the effect of the latent stands against that of another one at the same KL
divergence, and a judge says which of the two the explanation fits. What other latents'
explanations get right of the same pairs is taken off. After Paulo et al., arXiv 2410.13928, whose
pair of steered and clean text is told apart by fluency too and therefore stands apart here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field

from ..examples.prefixes import Prompt, Prompts
from ..judges import Judge
from ..judges.pairs import LikelihoodJudge, PairJudge, TokenJudge
from ..latents import AutointerpError, Explanation, Metric, Number, Outcome, Score
from ..latents.scales import Scale
from ..registry import scorers
from . import JudgedOptions, Materials
from .contest_metrics import FEWEST, HEADLINE, Table, Verdict, mean_of, share
from .contest_sides import Sides, sides_of
from .contests import Answers, Contest, by_reading, by_tokens, moved, strengths_of
from .effects import Effects, better, rises_without
from .likelihood_contests import by_surprisal

Beside = Literal["direction", "clean", "null", "null_own"]


class InterventionOptions(JudgedOptions):
    """``pairs`` TEST prompts, half of which end on a token on which the latent is active;
    ``foils`` other latents take turns as the other side of a pair. ``beside`` names the pairs that
    are judged apart from the headline's; each costs half of what the headline does."""

    pairs: int = Field(default=40, ge=FEWEST)
    foils: int = Field(default=2, ge=1)
    beside: tuple[Beside, ...] = get_args(Beside)

    def needs(self) -> frozenset[str]:
        return frozenset({"judge", "effects"})


class Judged(NamedTuple):
    """The answers, and what the way of judging measures beside."""

    answers: Answers
    more: list[Outcome]
    metrics: Mapping[str, Metric]


@scorers.register("intervention", InterventionOptions)
class InterventionScorer:
    """Headline: share of pairs that the explanation tells right, less others' on the same pairs.

    Apart from it: pairs against random directions and against the subject left alone; the ``null``,
    in which a random direction has the latent's place; the ``null_own``, in which it has an
    explanation of its own; the ``negative``, in which a latent whose activations may be negative is
    steered the other way; by judges that read tokens, zero-ablation; and, by those that tell
    likelihoods, the ``surprisal`` of the explanation that steering takes away, in nats a word.
    """

    reads: Literal["input", "output"] | None = "output"

    def __init__(
        self,
        options: InterventionOptions | None = None,
        seed: int = 0,
        *,
        judge: Judge,
        effects: Effects,
    ) -> None:
        self.options = options or InterventionOptions()
        self.seed = seed
        self.judge = judge
        self._effects = effects

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        latent = materials.latent
        prompts = self._effects.prefixes.of(latent, "test", self.options.pairs)
        if len(prompts) < FEWEST:
            few = f"{len(prompts)} TEST prompts; {FEWEST} are needed"
            return self._score(explanation, "too_few_examples", few)
        sides = await self._sides(explanation, materials)
        if isinstance(sides, str):
            return self._score(explanation, "too_few_examples", sides)
        kept = ("own", "other", "negative", *self.options.beside)
        contests = [c for c in sides.contests(len(prompts), self.seed) if c.source in kept]
        judged = await self._judged(contests, prompts, sides)
        kinds = ["neutral"] * len(prompts.neutral) + ["activating"] * len(prompts.activating)
        table = Table(contests, judged.answers, kinds, self._effects.target, self.seed)
        outcomes, metrics = table.outcomes() + judged.more, {**table.metrics(), **judged.metrics}
        details = await self._details(sides, prompts, materials)
        return self._score(explanation, *table.verdict(), metrics, outcomes, details)

    async def _sides(self, explanation: Explanation, materials: Materials) -> Sides | str:
        """The directions and texts, or why there are none."""
        nulls = "null_own" in self.options.beside
        sides = await sides_of(
            self._effects, explanation, materials.peers,
            foils=self.options.foils, nulls=nulls, seed=self.seed,
        )  # fmt: skip
        compared = isinstance(self.judge, LikelihoodJudge)
        if compared and isinstance(sides, Sides) and len(sides.others) < 2:
            return "one other latent's explanation; two are needed to compare one with the other"
        return sides

    async def _details(
        self, sides: Sides, prompts: Prompts, materials: Materials
    ) -> dict[str, Any]:
        """Who was compared, how far the latent was steered, and the KL divergence on TEST."""
        strength = await self._effects.strength(sides.own)
        scale = Scale.of_evidence(materials.evidence) if materials.evidence else None
        kinds = {"neutral": prompts.neutral, "activating": prompts.activating}
        return {
            "kl": {kind: await self._kl(sides, of) for kind, of in kinds.items() if of},
            "strength": strength.s,
            "over_maximum": strength.s / scale.strong if scale else None,
            "over_state": strength.ratio,
            "foils": [str(foil.latent) for foil in sides.foils],
            "others": len(sides.turns),
        }

    async def _kl(self, sides: Sides, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Mean KL in nats of the latent and of its foils."""
        directions = (sides.own, *sides.foils)
        strengths = await strengths_of(self._effects, directions, sides.own.latent)
        own, *foils = (await moved(self._effects, strengths, prompts)).values()
        return {"own": own, "foils": sum(foils) / len(foils)}

    async def _judged(self, contests: Sequence[Contest], prompts: Prompts, sides: Sides) -> Judged:
        judge, effects, latent = self.judge, self._effects, sides.own.latent
        if isinstance(judge, TokenJudge):
            answers = await by_tokens(judge, effects, prompts.all, contests, latent=latent)
            lost = await self._ablation(judge, sides, prompts)
            return Judged(answers, lost, share("ablation", lost))
        if isinstance(judge, PairJudge):
            answers = await by_reading(
                judge, effects, prompts.all, contests, latent=latent, seed=self.seed
            )
            return Judged(answers, [], {})
        if isinstance(judge, LikelihoodJudge):
            answers, nats = await by_surprisal(
                judge, effects, prompts.all, contests, sides.others, latent=latent
            )
            return Judged(answers, nats, mean_of(nats))
        raise AutointerpError(
            f"intervention: the judge {self.judge.name} compares no continuations;"
            " use judge: llm, logprob or pattern"
        )

    async def _ablation(self, judge: TokenJudge, sides: Sides, prompts: Prompts) -> list[Outcome]:
        """Whether taking the latent away costs the text's tokens more than another's."""
        vocabulary = self._effects.prefixes.vocabulary
        sets = [judge.promoted(text, vocabulary) for text in (sides.text, sides.turns[0])]
        latent = sides.own.latent
        found = await rises_without(self._effects, latent, prompts.activating, sets)
        return [Number(better(-own, -other), "ablation") for own, other in found.T.tolist()]

    def _score(
        self,
        explanation: Explanation,
        status: Verdict,
        reason: str | None,
        metrics: Mapping[str, Metric] | None = None,
        outcomes: Sequence[Outcome] = (),
        details: Mapping[str, Any] | None = None,
    ) -> Score:
        return Score(
            latent=explanation.latent,
            explanation=explanation.id,
            scorer="intervention",
            judge=self.judge.name,
            headline=HEADLINE,
            chance=0.0,
            metrics=metrics or {},
            outcomes=outcomes,
            status=status,
            reason=reason,
            details=details or {},
        )
