"""Intervention: does steering with the latent bring about what the explanation of its effect says?

At each TEST prompt the effect of the latent stands against that of another one at the same KL
divergence, and a judge says which of the two the explanation fits. What other latents'
explanations get right of the same pairs is taken off. After Paulo et al., arXiv 2410.13928, whose
pair of steered and clean text is told apart by fluency too and therefore stands apart here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from pydantic import Field

from ..examples.prefixes import Prompts
from ..judges import Judge
from ..judges.pairs import LikelihoodJudge, PairJudge, TokenJudge
from ..latents import (
    AutointerpError,
    Explanation,
    LatentId,
    Metric,
    Number,
    Outcome,
    Score,
)
from ..registry import scorers
from ..statistics import derived_generator
from ..subject.direction import Direction
from . import JudgedOptions, Materials
from .contest_metrics import FEWEST, HEADLINE, Table, Verdict, mean_of, share
from .contests import Answers, Contest, by_reading, by_tokens
from .effects import Effects, better, rises_without
from .surprisals import by_surprisal

RANDOM = 2  # random directions of each latent
OTHERS = 4  # latents whose explanations take turns in place of the latent's own
TRIED = 4  # times as many latents as there are to be foils

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


@dataclass(frozen=True)
class Sides:
    """All that the pairs of one latent are made of."""

    own: Direction
    foils: tuple[Direction, ...]
    random: tuple[Direction, ...]
    text: str
    others: tuple[str, ...]  # texts of latents on neither side
    null: str | None  # the text of the first random direction, if it has one
    negative: str | None  # of steering the other way, where activations may be negative


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
        sides = await self._sides(explanation, materials.peers)
        if isinstance(sides, str):
            return self._score(explanation, "too_few_examples", sides)
        contests = self._contests(sides, len(prompts))
        judged = await self._judged(contests, prompts, sides)
        answers = judged.answers
        kinds = ["neutral"] * len(prompts.neutral) + ["activating"] * len(prompts.activating)
        table = Table(contests, answers, kinds, self._effects.target, self.seed)
        outcomes, metrics = table.outcomes() + judged.more, {**table.metrics(), **judged.metrics}
        details = {"kl": answers.kl[sides.own], "foils": [str(f.latent) for f in sides.foils]}
        return self._score(explanation, *table.verdict(), metrics, outcomes, details)

    async def _sides(self, explanation: Explanation, peers: Sequence[Explanation]) -> Sides | str:
        """The directions and texts, or why there are none."""
        effects, latent = self._effects, explanation.latent
        own = Direction(latent)
        strength = await effects.strength(own)
        if not strength.reachable:
            return f"unreachable: the KL divergence saturates at {strength.kl:.3g} nats"
        others = [e for e in peers if e.latent != latent and e.text != explanation.text]
        others.sort(key=lambda e: e.latent)
        rng = derived_generator(self.seed, latent, "intervention", "others")
        drawn = [others[i] for i in rng.permutation(len(others)).tolist()]
        if len(drawn) < 2:
            return "too few other latents of the coder have an explanation of another effect"
        other, *drawn = drawn
        foils = await self._foils(latent, [e for e in drawn if e.text != other.text])
        if not foils:
            return "no other latent reaches the KL divergence on this one's SELECT prompts"
        random = tuple(Direction(latent, number) for number in range(RANDOM))
        null, negative = await asyncio.gather(
            self._text(random[0], "null_own" in self.options.beside),
            self._text(replace(own, sign=-1.0), effects.steering.is_signed(latent.coder)),
        )
        against = {peer.text for peer in drawn if Direction(peer.latent) in foils}
        texts = [other.text, *(peer.text for peer in drawn if peer.text not in against)]
        return Sides(
            own=own,
            foils=foils,
            random=random,
            text=explanation.text,
            others=tuple(texts[:OTHERS]),
            null=null,
            negative=negative,
        )

    async def _text(self, direction: Direction, wanted: bool) -> str | None:
        """The explanation of a direction's effect, if it is wanted and there is one."""
        written = await self._effects.write(direction) if wanted else None
        return written.text if written and written.status == "explained" else None

    async def _foils(self, latent: LatentId, drawn: Sequence[Explanation]) -> tuple[Direction, ...]:
        """The first of the drawn that reach the target on this latent's SELECT prompts: on their
        own, half of which they are active at, the same strength moves less."""
        found: list[Direction] = []
        for peer in drawn[: TRIED * self.options.foils]:
            direction = Direction(peer.latent)
            if (await self._effects.strength(direction, latent)).reachable:
                found.append(direction)
            if len(found) == self.options.foils:
                break
        return tuple(found)

    def _contests(self, sides: Sides, prompts: int) -> list[Contest]:
        """All contests, by prompt; at half of the prompts, drawn at random, the one of the two
        random directions takes the latent's place in the null, at the others the other."""
        own, random = sides.own, sides.random
        rng = derived_generator(self.seed, own.latent, "intervention", "null")
        turns = (rng.permutation(prompts) % RANDOM).tolist()
        found = []
        for i in range(prompts):
            foil = sides.foils[i % len(sides.foils)]
            found += [
                Contest("own", sides.text, own, foil, i),
                Contest("other", sides.others[i % len(sides.others)], own, foil, i),
                Contest("direction", sides.text, own, random[i % len(random)], i),
                Contest("clean", sides.text, own, None, i),
                Contest("null", sides.text, random[turns[i]], random[1 - turns[i]], i),
            ]
            if sides.null is not None:
                found.append(Contest("null_own", sides.null, random[0], foil, i))
            if sides.negative is not None:
                negative = replace(own, sign=-1.0)
                found.append(Contest("negative", sides.negative, negative, foil, i))
        kept = ("own", "other", "negative", *self.options.beside)
        return [c for c in found if c.source in kept]

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
        sets = [judge.promoted(text, vocabulary) for text in (sides.text, sides.others[0])]
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
