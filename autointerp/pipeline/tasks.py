"""The two units of work: explain one latent; score one explanation and its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any, Protocol

from autointerp.examples.sampling import SetBuilder
from autointerp.examples.store import ExampleStore
from autointerp.latents import (
    AutointerpError,
    Evidence,
    Explanation,
    LabelledSet,
    LatentId,
    Score,
    Split,
)
from autointerp.llm.accounts import metered
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline.controls import Control
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.scorers import Materials, Scorer

Report = Callable[[str, LatentId, BaseException], None]


class Explainer(Protocol):
    """Explains a latent from its evidence; chooses on ``selection``, SELECT windows."""

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation: ...


@dataclass(frozen=True)
class NamedScorer:
    """A scorer under its name in the run, and the name of the judge that answers it, if any."""

    name: str
    scorer: Scorer
    judge: str = ""


@dataclass(frozen=True)
class ExplainTask:
    """Explains one latent. Failures become explanations of status ``failed``."""

    store: ExampleStore
    sets: SetBuilder  # of SELECT
    explainer: Explainer
    name: str
    report: Report

    async def __call__(self, latent: LatentId) -> Explanation:
        started = perf_counter()
        with metered() as account:
            explanation = await self._explain(latent)
        cost = replace(account.all, seconds=perf_counter() - started)
        return replace(explanation, cost=cost, explainer=self.name)

    async def _explain(self, latent: LatentId) -> Explanation:
        if not self.store.statistics(latent.coder).firing_count[latent.index]:
            return Explanation(latent, "", self.name, status="dead", reason="it never fired")
        try:
            return await self.explainer.explain(*self.sets.take(latent))
        except (AutointerpError, BudgetExhausted):
            raise
        except Exception as error:  # noqa: BLE001 – recorded; the run goes on
            self.report("explain", latent, error)
            return Explanation(latent, "", self.name, status="failed", reason=_reason(error))


@dataclass(frozen=True)
class ScoreTask:
    """Scores one explanation, and its controls, with the scorers that have not done so.

    ``split`` is TEST, but for scores that an explanation is chosen by.
    """

    store: ExampleStore
    explanations: Sequence[Explanation]
    scorers: Sequence[NamedScorer]
    controls: Mapping[LatentId, Sequence[Control]]
    done: set[tuple[str, str, str]]
    report: Report
    split: Split = "test"

    @cached_property
    def todo(self) -> list[Explanation]:
        """The explanations that lack a score."""
        return [e for e in self.explanations if self.missing(e)]

    @cached_property
    def _sets(self) -> SetBuilder:
        return SetBuilder(self.store, self.split, [e.latent for e in self.todo])

    def missing(self, explanation: Explanation) -> list[tuple[NamedScorer, str]]:
        """The (scorer, control) pairs that have no score yet."""
        controls = [c.name for c in self.controls.get(explanation.latent, ())]
        return [
            (scorer, name)
            for scorer in self.scorers
            for name in [TRUE, *(controls if scorer.scorer.reads else ())]
            if (explanation.id, scorer.name, name) not in self.done
        ]

    async def __call__(self, explanation: Explanation) -> list[Scored]:
        shown, test = self._sets.take(explanation.latent)
        texts: dict[str, Explanation] = {
            c.name: c.explanation for c in self.controls.get(explanation.latent, ())
        }
        scored = []
        for scorer, name in self.missing(explanation):
            asked = texts.get(name, explanation)
            materials = self._materials(shown, test)
            score = await self._score(scorer, asked, materials)
            # A control belongs to the explanation that it stands in for.
            scored.append(Scored(replace(score, explanation=explanation.id), name))
        return scored

    def _materials(self, shown: Evidence, test: LabelledSet) -> Materials:
        latent = test.latent
        return Materials(
            latent=latent,
            test=test,
            evidence=shown,
            background=self.store.background(self.split),
            background_maxima=self.store.background_maxima(latent, self.split),
        )

    async def _score(
        self, scorer: NamedScorer, explanation: Explanation, materials: Materials
    ) -> Score:
        started = perf_counter()
        with metered() as account:
            score = await self._judged(scorer, explanation, materials)
        cost = replace(account.all, seconds=perf_counter() - started)
        return replace(score, scorer=scorer.name, cost=cost)

    async def _judged(
        self, scorer: NamedScorer, explanation: Explanation, materials: Materials
    ) -> Score:
        try:
            return await scorer.scorer.score(explanation, materials)
        except (AutointerpError, BudgetExhausted):
            raise
        except Exception as error:  # noqa: BLE001 – recorded; the run goes on
            self.report(f"score {scorer.name}", materials.latent, error)
            return _failed(scorer, materials.latent, error)


def _failed(scorer: NamedScorer, latent: LatentId, error: Exception) -> Score:
    nothing: dict[str, Any] = {"metrics": {}, "outcomes": ()}
    return Score(
        latent=latent,
        explanation=None,
        scorer=scorer.name,
        judge=scorer.judge,
        headline="",
        chance=0.0,
        status="failed",
        reason=_reason(error),
        **nothing,
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
