"""What a run has come to so far, kept up to date as rows are written: it costs the same whether a
run has a thousand latents or a million. The summary at the end is made from the rows themselves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import sqrt
from threading import Lock
from typing import Any, NamedTuple

from autointerp.latents import SOURCES, Cost, Explanation, LatentId
from autointerp.pipeline.columns import against
from autointerp.pipeline.failing import kind_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import EXPLANATION_COLUMNS, TRUE, Scored, read_explanation
from autointerp.pipeline.standings import SELECT

Document = dict[str, Any]
_OUTPUTS = ""  # stands for the explainer of what latents cause
_COSTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "dollars")


@dataclass
class _Sum:
    """Numbers that are averaged."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        self.total += value
        self.squares += value * value

    @property
    def mean(self) -> float:
        return self.total / self.n

    def document(self) -> Document:
        """With the interval that the normal distribution gives."""
        variance = max(0.0, self.squares / self.n - self.mean**2)
        half = 1.96 * sqrt(variance / self.n)
        return {"n": self.n, "mean": self.mean, "low": self.mean - half, "high": self.mean + half}


@dataclass
class _Scorer:
    """One scorer's sums over the explanations of one explainer."""

    metric: str | None = None
    chance: float | None = None
    values: defaultdict[str, _Sum] = field(default_factory=lambda: defaultdict(_Sum))  # by control
    sources: defaultdict[str, _Sum] = field(default_factory=lambda: defaultdict(_Sum))
    statuses: Counter[str] = field(default_factory=Counter)

    def add(self, scored: Scored, before: str | None) -> None:
        score = scored.score
        if scored.control == TRUE:
            self.statuses.update([score.status])
            self.statuses.subtract([before] if before else [])
        if score.status != "scored":
            return
        value = score.metrics[score.headline].value
        self.values[scored.control].add(value)
        if scored.control == TRUE:
            self.metric, self.chance = score.headline, score.chance
            for source in SOURCES:
                if f"specificity_{source}" in score.metrics:
                    self.sources[source].add(against(source, score.metrics, score.headline))

    def document(self) -> Document:
        nothing = {"n": 0, "mean": None, "low": None, "high": None}
        found = {control: self.values[control].document() for control in sorted(self.values)}
        true = found.pop(TRUE, nothing)
        return {
            "metric": self.metric,
            "chance": self.chance,
            **true,
            "controls": {control: of["mean"] for control, of in found.items()},
            "control_intervals": found,
            "by_source": {source: self.sources[source].mean for source in self.sources},
            "by_status": dict(sorted((+self.statuses).items())),
        }


class _Row(NamedTuple):
    """Which explanation or score; ``of`` names the explainer."""

    of: str
    latent: LatentId
    scorer: str = ""
    control: str = ""


def _nothing() -> dict[str, float]:
    return dict.fromkeys(_COSTS, 0)


class Running:
    """Takes note of every row that is written; :meth:`document` may be asked for by any thread."""

    def __init__(self, results: Results) -> None:
        self._lock = Lock()
        self._statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._costs: defaultdict[str, dict[str, float]] = defaultdict(_nothing)
        self._scorers: defaultdict[tuple[str, str], _Scorer] = defaultdict(_Scorer)
        self._failed: dict[_Row, str] = {}  # the kind of failure
        self.changes = 0
        for row in results.query(f"SELECT {EXPLANATION_COLUMNS}, NULL FROM explanations"):
            self.explained(read_explanation(row), None)
        for scored in results.scores():
            self.scored(scored, None)

    def explained(self, explanation: Explanation, before: str | None) -> None:
        """An explanation was written; ``before`` is the status of the one that it replaced."""
        of = _OUTPUTS if explanation.kind == "output" else explanation.explainer
        with self._lock:
            self._statuses[of].update([explanation.status])
            self._statuses[of].subtract([before] if before else [])
            row = _Row(of, explanation.latent)
            self._note(row, explanation.status, explanation.reason, explanation.cost)

    def scored(self, scored: Scored, before: str | None) -> None:
        """A score was written; ``before`` is as for :meth:`explained`."""
        score = scored.score
        if score.explanation is None or score.scorer == SELECT:
            return
        *_, kind, explainer = score.explanation.split(":")
        of = _OUTPUTS if kind == "output" else explainer
        with self._lock:
            self._scorers[of, score.scorer].add(scored, before)
            row = _Row(of, score.latent, score.scorer, scored.control)
            self._note(row, score.status, score.reason, score.cost)

    def _note(self, row: _Row, status: str, reason: str | None, cost: Cost) -> None:
        self.changes += 1
        for name in _COSTS:
            self._costs[row.of][name] += getattr(cost, name)
        self._failed.pop(row, None)
        if status == "failed":
            self._failed[row] = kind_of(reason or "")

    def document(self, explainer: str) -> Document:
        """The part of a run's summary that is known at any time, of this explainer's explanations
        and those of what latents cause."""
        with self._lock:
            counts = dict(sorted((+self._statuses[explainer]).items()))
            costs = [self._costs[explainer], self._costs[_OUTPUTS]]
            scorers = {
                scorer: sums.document()
                for (of, scorer), sums in sorted(self._scorers.items())
                if of in (explainer, _OUTPUTS)
            }
            failed = [row for row in self._failed if row.of in (explainer, _OUTPUTS)]
            kinds = Counter(self._failed[row] for row in failed)
            return {
                "explained": counts.get("explained", 0),
                "failed": len({row.latent for row in failed}),
                "failures": dict(kinds.most_common()),
                "by_status": counts,
                "scores": scorers,
                "cost": {name: sum(cost[name] for cost in costs) for name in _COSTS},
            }
