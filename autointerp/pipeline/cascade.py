"""The explain stage of a run with tiers: the cheapest for all, dearer ones where it does badly.

Every tier's explanations are stored under its own name and judged on SELECT; what is stored is
not made again. After each tier the best explanation of every latent is published under the name
``cascade``, so that a run which stops on the way leaves every latent the best that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.explainers.agent.explainer import SELECT_WINDOWS
from autointerp.kinds import PATTERN
from autointerp.latents import Explanation, LatentId
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline.breaker import Breaker
from autointerp.pipeline.explaining import explain_all
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.plan import Done
from autointerp.pipeline.results import Results
from autointerp.pipeline.retries import NO_RETRY, Retry
from autointerp.pipeline.rows import TRUE, Scored, is_scored
from autointerp.pipeline.standings import (
    SELECT,
    STOPPED,
    SelectScorer,
    Standing,
    escalated,
    standings,
)
from autointerp.pipeline.tasks import NamedScorer, Report, ScoreTask
from autointerp.pipeline.tools import Tools
from autointerp.sections import CASCADE


@dataclass(frozen=True)
class Cascade:
    """Explains latents tier by tier. ``observe`` gets a stage, how many are done, of how many."""

    config: RunConfig
    store: ExampleStore
    results: Results
    observe: Callable[[str, int, int], None]
    report: Report
    retry: Retry = NO_RETRY

    @property
    def tiers(self) -> list[str]:
        """The kinds of explainers, cheapest first: the names of their explanations."""
        return [section["kind"] for section in self.config.tiers]

    def unfinished(self, latents: Sequence[LatentId]) -> bool:
        """Whether anything is left to explain, to judge on SELECT, or to publish."""
        found = standings(self.results, self.tiers)
        return bool(self._unpublished(latents)) or any(
            self._lacks(found.get(latent, Standing()), tier)
            for place, tier in enumerate(self.tiers)
            for latent in self._wanted(place, latents)
        )

    async def explain(self, tools: Tools, latents: Sequence[LatentId]) -> str | None:
        """Explain, escalate and publish; returns why escalation stopped, None if it did not.

        Raises:
            BudgetExhausted: if a budget is spent before every latent has its first explanation.
            StoppedError: if too many of a tier's latents fail.
        """
        self.results.note(STOPPED, None)
        for place, section in enumerate(self.config.tiers):
            wanted = self._wanted(place, latents)
            try:
                await self._explain(tools, section, wanted)
                await self._judge(tools, section["kind"], wanted)
            except BudgetExhausted as spent:
                self._publish(latents)
                if set(latents) - standings(self.results, self.tiers[:1]).keys():
                    raise
                stopped = self._stopped(section["kind"], wanted, spent)
                self.results.note(STOPPED, stopped)
                return stopped
            self._publish(latents)
        return None

    def _wanted(self, place: int, latents: Sequence[LatentId]) -> list[LatentId]:
        """The latents for a tier, those with most to gain first."""
        if not place:
            return list(latents)
        earlier, asked = self.tiers[:place], set(latents)
        found = standings(self.results, earlier)
        low = escalated(found, earlier, self.config.explainer["escalate_below"])
        return [latent for latent in low if latent in asked]

    def _lacks(self, standing: Standing, tier: str) -> bool:
        """Whether the tier has still to explain the latent, or to be judged."""
        explanation = standing.explanations.get(tier)
        if explanation is None:
            return True
        if explanation.status == "failed":
            return bool(self.retry.of(tier, explanation.latent))
        again = self.retry.of_score((explanation.id, SELECT, TRUE))
        return is_scored(explanation) and (tier not in standing.scores or bool(again))

    async def _explain(
        self, tools: Tools, section: Mapping[str, Any], wanted: Sequence[LatentId]
    ) -> None:
        await explain_all(
            tools,
            section,
            wanted,
            store=self.store,
            results=self.results,
            observe=partial(self.observe, f"explain: {section['kind']}"),
            report=self.report,
            retry=self.retry,
        )

    async def _judge(self, tools: Tools, tier: str, wanted: Sequence[LatentId]) -> None:
        """Score the explanations of a tier by detection on SELECT."""
        made = {e.latent: e for e in self.results.explanations(tier) if is_scored(e)}
        section, seed = self.config.explainer, self.config.run.seed
        few = None if section["judge"]["kind"] == PATTERN else SELECT_WINDOWS
        judge = tools.judge(section["judge"])
        detection = SelectScorer(section["select"] or few, seed, judge)
        scorer = NamedScorer(SELECT, detection, judge.name)
        explanations = [made[latent] for latent in wanted if latent in made]
        known = Done(self.results, self.retry)
        task = ScoreTask(
            self.store, explanations, [scorer], {}, known, self.report,
            split="select", retry=self.retry,
        )  # fmt: skip
        todo, breaker = list(task.todo), Breaker()

        def done(_: Explanation, scores: list[Scored]) -> None:
            self.results.put_scores(scores)
            finished = len(explanations) - len(todo) + breaker.latents + 1
            self.observe(f"judge: {tier}", finished, len(explanations))
            breaker.record(failed=any(s.score.status == "failed" for s in scores))

        most = self.config.in_flight("explain")
        await run_tasks(todo, task, done, concurrency=most, room=tools.room)

    def _stopped(self, tier: str, wanted: Sequence[LatentId], spent: BudgetExhausted) -> str:
        found = standings(self.results, self.tiers)
        left = sum(self._lacks(found[latent], tier) for latent in wanted)
        return f"escalation stopped in {tier}, {left} of {len(wanted)} latents left: {spent}"

    def _publish(self, latents: Sequence[LatentId]) -> None:
        for explanation, tier, values in self._unpublished(latents):
            (full,) = self.results.explanations(tier, explanation.latent, details=True)
            details = {**full.details, "tier": tier, "select": values}
            self.results.replace_explanation(replace(explanation, details=details))

    def _unpublished(
        self, latents: Sequence[LatentId]
    ) -> list[tuple[Explanation, str, dict[str, float]]]:
        """The explanations to publish, less their details, that are not stored like that yet;
        with the tier of each, and all tiers' SELECT values."""
        stored = {e.latent: e for e in self.results.explanations(CASCADE)}
        found = standings(self.results, self.tiers)
        rows = []
        for latent in latents:
            if latent in found:
                standing, tier = found[latent], found[latent].chosen()
                cost = standing.cost(self.tiers)
                best = replace(standing.explanations[tier], explainer=CASCADE, cost=cost)
                if best != stored.get(latent):
                    rows.append((best, tier, standing.values))
        return rows
