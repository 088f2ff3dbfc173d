"""The explainer agent as an explainer: evidence in, the published explanation out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

from pydantic import PositiveInt

from autointerp.explainers.agent.desk import Caps
from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.loop import Agent
from autointerp.explainers.agent.measuring import Measure
from autointerp.explainers.agent.pattern_roles import PatternRoles
from autointerp.explainers.agent.publishing import Chooser, joined, published, replaced
from autointerp.explainers.agent.roles import Roles, RolesFactory
from autointerp.explainers.pattern import PatternExplainer
from autointerp.judges import Judge, Verdict
from autointerp.latents import (
    AutointerpError,
    Evidence,
    Explanation,
    LabelledSet,
    LatentId,
    Status,
)
from autointerp.patterns import Lexicon
from autointerp.patterns.reading import Encode, Reader
from autointerp.registry import Turns, explainers

SELECT_WINDOWS = 20


class AgentOptions(Caps):
    """Who plays the roles, and the caps. ``llm`` names the model among the run's ``llms``.

    ``select`` is how many SELECT windows of each label compare the agent's text with others:
    20 for an LLM's, all for patterns, unless given. With fewer than ``fewest`` distinct active
    windows a latent is ``too_few_examples``.
    """

    roles: Literal["pattern", "llm"] = "pattern"
    llm: str = "explainer"
    select: PositiveInt | None = None
    fewest: PositiveInt = 10

    def needs(self) -> frozenset[str]:
        asking = {"roles_factory", "rivals"} if self.roles == "llm" else set()
        return frozenset({"probes", "refused", "encode", "judge"} | asking)

    @property
    def turns(self) -> Turns:
        """Calls of roles, and a rival's question. The judge looks for gaps in each round and at the
        end, and compares the agent's text with two rivals'."""
        calls = min(self.calls, 1 + 3 * self.rounds)
        return Turns(calls + 1 if self.roles == "llm" else 0, self.rounds + 4)

    @property
    def patience(self) -> float | None:
        return self.seconds


class Rival(Protocol):
    """Another explainer, whose text the agent's must beat on SELECT."""

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation: ...


@explainers.register("agent", AgentOptions)
class AgentExplainer:
    """One agent a latent; one explainer serves a run.

    Args:
        probes: measures texts on the subject.
        refused: what ``probes`` raises for a text that cannot be measured.
        encode: token ids of a text, without special tokens.
        judge: answers whether a text explains a window, on held-back and on SELECT windows.
        roles_factory: makes the roles of one latent; needed for ``roles: llm``.
        rivals: explainers whose texts are compared with the agent's on SELECT, by name; the
            pattern explainer unless given.

    Raises:
        AutointerpError: for ``roles: llm`` without a factory.
    """

    name = "agent"

    def __init__(
        self,
        options: AgentOptions | None = None,
        seed: int = 0,
        *,
        probes: Measure,
        refused: type[Exception],
        encode: Encode,
        judge: Judge,
        roles_factory: RolesFactory | None = None,
        rivals: Mapping[str, Rival] | None = None,
    ) -> None:
        self.options = options or AgentOptions()
        if self.options.roles == "llm" and roles_factory is None:
            raise AutointerpError(
                "explainer.roles: llm needs a language model; name one under llms.explainer"
                " or use roles: pattern"
            )
        self.seed = seed
        self.probes, self.refused, self.encode, self.judge = probes, refused, encode, judge
        self.roles_factory = roles_factory
        self.learner = PatternExplainer(seed=seed)
        self.rivals = {"pattern": self.learner} if rivals is None else rivals
        self._reader = Reader(Lexicon([]), encode)

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
        """Search, then choose on SELECT. Every latent gets a result with its reason."""
        started = time.perf_counter()
        latent = evidence.latent
        if not evidence.statistics.firing_count:
            return self._unexplained(latent, "dead", "it never fired")
        exemplars = Exemplars.of(evidence, self.encode, self.seed)
        found = len(exemplars.distinct) + len(exemplars.held_back) if exemplars else 0
        if exemplars is None or found < self.options.fewest:
            few = f"{found} distinct active windows; {self.options.fewest} are needed"
            return self._unexplained(latent, "too_few_examples", few)
        roles = self._roles(exemplars)
        agent = Agent(
            roles, self.probes, exemplars, self.options,
            refused=self.refused, covered=lambda text: self._covered(text, exemplars),
            join=joined,
        )  # fmt: skip
        result = await agent.run()
        cost = replace(roles.cost, seconds=time.perf_counter() - started)
        explanation = published(latent, self.name, result, cost)
        return await self._chosen(explanation, evidence, selection)

    def _unexplained(self, latent: LatentId, status: Status, reason: str) -> Explanation:
        return Explanation(latent, "", self.name, status=status, reason=reason)

    def _roles(self, exemplars: Exemplars) -> Roles:
        if self.roles_factory is not None and self.options.roles == "llm":
            return self.roles_factory(exemplars.shown)
        vocabulary = exemplars.shown.background.vocabulary
        if self._reader.lexicon.vocabulary is not vocabulary:
            self._reader = Reader(Lexicon(vocabulary), self.encode)
        return PatternRoles(exemplars, self._reader, self.learner, self.seed)

    async def _covered(self, text: str, exemplars: Exemplars) -> Sequence[bool]:
        verdicts = await self.judge.detect(text, exemplars.held_back, latent=exemplars.latent)
        return [isinstance(verdict, Verdict) and verdict.label for verdict in verdicts]

    async def _chosen(
        self, ours: Explanation, evidence: Evidence, selection: LabelledSet
    ) -> Explanation:
        """The best text on SELECT. Without a confirmed hypothesis a rival's text is published
        only by pattern roles, which have no other words than its."""
        windows = self.options.select or (SELECT_WINDOWS if self.options.roles == "llm" else None)
        chooser = Chooser(self.judge, selection, windows, self.seed)
        open_to_rivals = ours.status == "explained" or (
            ours.status == "no_explanation" and self.options.roles == "pattern"
        )
        if not (open_to_rivals and self.rivals and chooser.possible):
            return ours
        offered = {name: await r.explain(evidence, selection) for name, r in self.rivals.items()}
        candidates = {name: e for name, e in offered.items() if e.status == "explained"}
        without = {name: e.reason for name, e in offered.items() if e.status != "explained"}
        ours = replace(ours, details={**ours.details, "rivals_without_text": without})
        if ours.status == "explained":
            candidates = {self.name: ours, **candidates}
        if not candidates:
            return ours
        best, values = await chooser.best(candidates)
        chosen = ours if best == self.name else replaced(ours, candidates[best], best, values)
        return replace(chosen, details={**chosen.details, "select": values, "chosen": best})
