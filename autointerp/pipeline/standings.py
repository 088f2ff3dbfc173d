"""How far the tiers of a cascade have come with each latent, and what follows from it.

A latent's SELECT value is the mean of two balanced accuracies of detection on SELECT: against
random negatives, and against hard ones (against random ones alone where there are no others). It
decides who is escalated and which tier's explanation is published; TEST decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from autointerp.explainers.agent.publishing import MARGIN
from autointerp.judges import Judge
from autointerp.latents import HARD_SOURCES, Cost, Explanation, LatentId, Score
from autointerp.pipeline.results import Results
from autointerp.scorers import Materials
from autointerp.scorers.detection import DetectionScorer
from autointerp.statistics import derived_generator

SELECT = "select"  # the scorer's name of scores on SELECT
STOPPED = "why escalation stopped"  # what is noted in the results
CHANCE = 0.5
_COSTS = tuple(Cost.__dataclass_fields__)

Document = dict[str, Any]


@dataclass
class Standing:
    """One latent: each tier's explanation, and its score on SELECT."""

    explanations: dict[str, Explanation] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The SELECT value of every tier that has one."""
        scored = {tier: s for tier, s in self.scores.items() if s.status == "scored"}
        return {tier: select_value(s) for tier, s in scored.items()}

    def best(self, tiers: Collection[str]) -> float | None:
        """The highest SELECT value of these tiers; chance if all of them failed to explain.

        None where there is no knowing: the latent is dead or has too few windows, or nothing
        was judged.
        """
        values = [value for tier, value in self.values.items() if tier in tiers]
        if values:
            return max(values)
        tried = [e.status for tier, e in self.explanations.items() if tier in tiers]
        return CHANCE if set(tried) == {"failed"} else None

    def chosen(self) -> str:
        """The tier to publish: the first within the margin of the best SELECT value.

        Without any value, the first that explained, or at least did not fail.
        """
        values = self.values
        if values:
            least = max(values.values()) - MARGIN - 1e-9
            return next(tier for tier in self.explanations if values.get(tier, -1.0) >= least)
        ranks = {"explained": 0, "failed": 2}
        tiers = self.explanations
        return min(tiers, key=lambda tier: ranks.get(tiers[tier].status, 1))

    def cost(self, tiers: Collection[str]) -> Cost:
        """What these tiers' explanations and their scores on SELECT cost."""
        kept: list[Mapping[str, Explanation | Score]] = [self.explanations, self.scores]
        return total(row.cost for rows in kept for tier, row in rows.items() if tier in tiers)


class SelectScorer:
    """Detection on at most ``windows`` active, random and hard windows of SELECT each."""

    reads: Literal["input", "output"] | None = DetectionScorer.reads

    def __init__(self, windows: int | None, seed: int, judge: Judge) -> None:
        self._windows, self._seed = windows, seed
        self._detection = DetectionScorer(seed=seed, judge=judge)

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        rng = derived_generator(self._seed, materials.latent, "judged on select")
        items = materials.test.items
        mixed = [items[i] for i in rng.permutation(len(items)).tolist()]
        kinds = (("activating",), ("random",), HARD_SOURCES)
        few = [x for kind in kinds for x in [i for i in mixed if i.source in kind][: self._windows]]
        fewer = replace(materials.test, items=few)
        materials = replace(materials, labelled=lambda: fewer)
        return await self._detection.score(explanation, materials)


def select_value(score: Score) -> float:
    """The SELECT value of a detection score on SELECT, from 0 to 1, chance 0.5."""
    kinds = [
        score.metrics[name].value for name in ("balanced_accuracy", "hard") if name in score.metrics
    ]
    return sum(kinds) / len(kinds)


def total(costs: Iterable[Cost]) -> Cost:
    listed = list(costs)
    return Cost(**{name: sum(getattr(cost, name) for cost in listed) for name in _COSTS})


def standings(results: Results, tiers: Sequence[str]) -> dict[LatentId, Standing]:
    """What is stored of these tiers, by latent; each latent's tiers in their order."""
    found: dict[LatentId, Standing] = {}
    for tier in tiers:
        for explanation in results.explanations(tier):
            found.setdefault(explanation.latent, Standing()).explanations[tier] = explanation
    for scored in results.scores(SELECT):
        tier = (scored.score.explanation or "").rpartition(":")[2]
        standing = found.get(scored.score.latent)
        if standing is not None and tier in standing.explanations:
            standing.scores[tier] = scored.score
    return found


def escalated(
    found: Mapping[LatentId, Standing], earlier: Collection[str], bar: float
) -> list[LatentId]:
    """The latents for the tier after ``earlier``: those whose best SELECT value is below the bar.

    The lowest come first. A tier's cost is not known before it has tried a latent, and so taken
    to be the same for all; a low value leaves most to gain.
    """
    values = {latent: standing.best(earlier) for latent, standing in found.items()}
    low = [(value, latent) for latent, value in values.items() if value is not None and value < bar]
    return [latent for _, latent in sorted(low)]


def report(results: Results) -> Document:
    """What each tier cost and gained, and why escalation stopped, if it did.

    Of a tier: ``tried`` latents; ``waiting`` ones, below the bar and not tried yet; ``failed``,
    without explanation or SELECT value for a fault; ``published`` texts. ``before`` and ``after``
    are means, over latents with a SELECT value of this tier, of the best value of the tiers before
    it and of those with it. The cost is of explaining and of judging on SELECT; ``seconds`` add up
    over latents worked on side by side.
    """
    settings = results.settings()
    tiers, bar = settings["explainer.cascade.tiers"], settings["explainer.cascade.escalate_below"]
    found = standings(results, tiers)
    rows = [_tier(found, tiers[:place], tier, bar) for place, tier in enumerate(tiers)]
    return {"escalate_below": bar, "stopped": results.noted(STOPPED), "tiers": rows}


def _tier(
    found: Mapping[LatentId, Standing], earlier: Sequence[str], tier: str, bar: float
) -> Document:
    tried = [standing for standing in found.values() if tier in standing.explanations]
    judged = [standing for standing in tried if tier in standing.values]
    wanted = escalated(found, earlier, bar)
    cost = total(standing.cost([tier]) for standing in tried)
    return {
        "tier": tier,
        "tried": len(tried),
        "waiting": sum(tier not in found[latent].explanations for latent in wanted),
        "failed": sum(failed(standing, tier) for standing in tried),
        "published": sum(_publishes(standing, tier) for standing in tried),
        "before": _mean(judged, earlier) if earlier else None,
        "after": _mean(judged, [*earlier, tier]),
        **{name: getattr(cost, name) for name in _COSTS},
    }


def failed(standing: Standing, tier: str) -> bool:
    """Whether explaining or judging met a fault, so that it is worth another try."""
    rows = [standing.explanations.get(tier), standing.scores.get(tier)]
    return any(row is not None and row.status == "failed" for row in rows)


def _publishes(standing: Standing, tier: str) -> bool:
    return standing.chosen() == tier and standing.explanations[tier].status == "explained"


def _mean(judged: Sequence[Standing], tiers: Sequence[str]) -> float | None:
    best = [standing.best(tiers) for standing in judged]
    values = [value for value in best if value is not None]
    return sum(values) / len(values) if values else None
