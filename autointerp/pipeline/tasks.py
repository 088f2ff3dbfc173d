"""The two units of work: explain one latent; score one explanation and its controls."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from operator import attrgetter
from time import perf_counter
from typing import Any, Protocol, overload

from autointerp.examples.active import active_windows, neighbours_active
from autointerp.examples.sampling import SetBuilder, labelled_set
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
from autointerp.llm.anew import asking_anew
from autointerp.llm.at_once import at_once
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline.controls import Control
from autointerp.pipeline.repeats import REPEAT, in_order
from autointerp.pipeline.retries import NO_RETRY, ROUND, Retry
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.scorers import Materials, Scorer

Report = Callable[[str, LatentId, BaseException], None]


class Explainer(Protocol):
    """Explains a latent from its evidence; chooses on ``selection``, SELECT windows."""

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation: ...


@dataclass(frozen=True)
class NamedScorer:
    """A scorer under its name in the run, and the name of the judge that answers it, if any.

    ``again`` is the same, asking for second answers, of ``repeats`` latents.
    """

    name: str
    scorer: Scorer
    judge: str = ""
    again: Scorer | None = None
    repeats: int = 0

    @property
    def controls(self) -> Mapping[str, Scorer]:
        """Controls of its own: the same explanation, asked about in another way."""
        own: Mapping[str, Scorer] = getattr(self.scorer, "controls", {})
        return own

    def control(self, name: str) -> NamedScorer:
        """What scores the control ``name``: itself, unless it is one of its own."""
        if name == REPEAT and self.again is not None:
            return replace(self, scorer=self.again)
        return replace(self, scorer=self.controls.get(name, self.scorer))


@dataclass(frozen=True)
class ExplainTask:
    """Explains one latent. Failures become explanations of status ``failed``."""

    store: ExampleStore
    sets: SetBuilder  # of SELECT
    explainer: Explainer
    name: str
    report: Report
    retry: Retry = NO_RETRY

    async def __call__(self, latent: LatentId) -> Explanation:
        started, number = perf_counter(), self.retry.of(self.name, latent)
        with metered(self.name) as account, asking_anew(number):
            explanation = await self._explain(latent)
        if number and explanation.status == "failed":
            explanation = replace(explanation, details={**explanation.details, ROUND: number})
        cost = replace(account.all, seconds=perf_counter() - started)
        return replace(explanation, cost=cost, explainer=self.name)

    def _taken(self, latent: LatentId) -> tuple[Evidence, LabelledSet]:
        # Handed on and not kept: an explainer lets go of them while it waits for an answer.
        evidence, selection = self.sets.take(latent)
        return evidence, selection()

    async def _explain(self, latent: LatentId) -> Explanation:
        if not self.store.statistics(latent.coder).firing_count[latent.index]:
            self.sets.pass_over(latent)
            return Explanation(latent, "", self.name, status="dead", reason="it never fired")
        try:
            return await self.explainer.explain(*self._taken(latent))
        except (AutointerpError, BudgetExhausted):
            raise
        except Exception as error:  # noqa: BLE001 – recorded; the run goes on
            self.report("explain", latent, error)
            return Explanation(latent, "", self.name, status="failed", reason=_reason(error))


@dataclass(frozen=True)
class ScoreTask:
    """Scores one explanation, and its controls, with the scorers that have not done so.

    ``split`` is TEST, but for scores that an explanation is chosen by. ``own`` are those of the
    explanations that are scored here: all of them, unless given. ``together`` makes all scores of
    one explanation at once, so that their questions can go out with one wave.
    """

    store: ExampleStore
    explanations: Iterable[Explanation]  # gone through more than once
    scorers: Sequence[NamedScorer]
    controls: Mapping[str, Mapping[LatentId, Sequence[Control]]]  # by the explanations' kind
    done: Container[tuple[str, str, str]]
    report: Report
    split: Split = "test"
    own: Iterable[Explanation] | None = None  # gone through more than once
    retry: Retry = NO_RETRY
    together: bool = False

    @property
    def todo(self) -> Iterator[Explanation]:
        """The explanations that lack a score; a block's windows are read as it is reached."""
        return self._sets.ahead(self._lacking(), attrgetter("latent"))

    def left(self) -> int:
        """How many explanations lack a score."""
        return sum(1 for _ in self._lacking())

    def _lacking(self) -> Iterator[Explanation]:
        return filter(self.missing, self.explanations if self.own is None else self.own)

    @cached_property
    def _sets(self) -> SetBuilder:
        return SetBuilder(self.store, self.split)

    def missing(self, explanation: Explanation) -> list[tuple[NamedScorer, str]]:
        """The (scorer, control) pairs that have no score yet."""
        controls = [c.name for c in self._controls(explanation)]
        return [
            (scorer.control(name), name)
            for scorer in self.scorers
            if (scorer.scorer.reads or "input") == explanation.kind
            for name in [TRUE, *_controls(scorer, controls), *self._repeats(scorer, explanation)]
            if (explanation.id, scorer.name, name) not in self.done
        ]

    def _repeats(self, scorer: NamedScorer, explanation: Explanation) -> list[str]:
        if not scorer.repeats:
            return []
        few = self._first[explanation.kind][: scorer.repeats]
        return [REPEAT] if explanation.latent in few else []

    @cached_property
    def _first(self) -> Mapping[str, Sequence[LatentId]]:
        """By kind, the latents that are asked about again."""
        most = max(scorer.repeats for scorer in self.scorers)
        return {
            kind: in_order((e.latent for e in self.explanations if e.kind == kind), most)
            for kind in ("input", "output")
        }

    async def __call__(self, explanation: Explanation) -> list[Scored]:
        shown, labelled = self._sets.take(explanation.latent)
        texts: dict[str, Explanation] = {
            c.name: replace(c.explanation, kind=explanation.kind)
            for c in self._controls(explanation)
        }
        materials = replace(self._materials(shown, labelled), peers=self._peers(explanation))

        async def scored(scorer: NamedScorer, name: str) -> Scored:
            asked = texts.get(name, explanation)
            number = self.retry.of_score((explanation.id, scorer.name, name))
            score = await self._score(scorer, asked, materials, number)
            # A control belongs to the explanation that it stands in for.
            return Scored(replace(score, explanation=explanation.id), name)

        missing = self.missing(explanation)
        if self.together:
            return await at_once(scored(*one) for one in missing)
        return [await scored(*one) for one in missing]

    def _controls(self, explanation: Explanation) -> Sequence[Control]:
        return self.controls.get(explanation.kind, {}).get(explanation.latent, ())

    def _peers(self, explanation: Explanation) -> Sequence[Explanation]:
        return self._explained.setdefault(
            (explanation.latent.coder, explanation.kind),
            _Peers(self.explanations, explanation.latent.coder, explanation.kind),
        )

    @cached_property
    def _explained(self) -> dict[tuple[str, str], Sequence[Explanation]]:
        return {}

    def _materials(self, shown: Evidence, labelled: Callable[[], LabelledSet]) -> Materials:
        latent = shown.latent
        return Materials(
            latent=latent,
            labelled=labelled,
            evidence=shown,
            background=self.store.background(self.split),
            background_maxima=self.store.background_maxima(latent, self.split),
            background_near=cache(partial(neighbours_active, self.store, latent, self.split)),
            active=cache(partial(active_windows, self.store, latent, self.split)),
            active_count=int(self.store.statistics(latent.coder).window_count[latent.index].sum()),
            window_count=self.store.window_count,
            selection=cache(partial(labelled_set, self.store, latent, "select", shown)),
        )

    async def _score(
        self, scorer: NamedScorer, explanation: Explanation, materials: Materials, number: int
    ) -> Score:
        started = perf_counter()
        with metered(scorer.name) as account, asking_anew(number):
            score = await self._judged(scorer, explanation, materials)
        if number and score.status == "failed":
            score = replace(score, details={**score.details, ROUND: number})
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


@dataclass(frozen=True, eq=False)
class _Peers(Sequence[Explanation]):
    """The explanations of one coder and kind, read when a scorer first looks at them."""

    explanations: Iterable[Explanation]
    coder: str
    kind: str

    @cached_property
    def _read(self) -> list[Explanation]:
        of = (e for e in self.explanations if (e.latent.coder, e.kind) == (self.coder, self.kind))
        return [e for e in of if e.status == "explained"]

    @overload
    def __getitem__(self, at: int) -> Explanation: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Explanation]: ...
    def __getitem__(self, at: int | slice) -> Explanation | Sequence[Explanation]:
        return self._read[at]

    def __len__(self) -> int:
        return len(self._read)


def _controls(scorer: NamedScorer, texts: Sequence[str]) -> list[str]:
    """The controls of a scorer on a latent that has these texts for it, or none."""
    if not texts or not scorer.scorer.reads:
        return []
    return [*texts, *scorer.controls]


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
