"""What a run has come to so far, kept up to date as rows are written: it costs the same whether a
run has a thousand latents or a million. The summary at the end is made from the rows themselves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import sqrt
from threading import Lock
from typing import Any, Literal, NamedTuple

from autointerp.latents import SOURCES, Cost, Explanation, LatentId
from autointerp.pipeline.columns import QUANTITIES, against
from autointerp.pipeline.failing import kind_of
from autointerp.pipeline.repeats import REPEAT
from autointerp.pipeline.results import Results, Row
from autointerp.pipeline.rows import EXPLANATION_COLUMNS, TRUE, Scored, read_explanation
from autointerp.pipeline.standings import SELECT

Document = dict[str, Any]
Change = Literal[1, -1]  # a row is there from now on, or is no more
_OUTPUTS = ""  # stands for the explainer of what latents cause


@dataclass
class _Sum:
    """Numbers that are averaged."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def count(self, value: float, change: Change) -> None:
        self.n += change
        self.total += change * value
        self.squares += change * value * value

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

    def count(self, scored: Scored, change: Change) -> None:
        score = scored.score
        if scored.control == TRUE:
            self.statuses[score.status] += change
        if score.status != "scored":
            return
        value = score.metrics[score.headline].value
        self.values[scored.control].count(value, change)
        if scored.control == TRUE:
            self.metric, self.chance = score.headline, score.chance
            for source in SOURCES:
                if f"specificity_{source}" in score.metrics:
                    found = against(source, score.metrics, score.headline)
                    self.sources[source].count(found, change)

    def document(self) -> Document:
        nothing = {"n": 0, "mean": None, "low": None, "high": None}
        found = {name: of.document() for name, of in sorted(self.values.items()) if of.n}
        true = found.pop(TRUE, None)
        found.pop(REPEAT, None)
        return {
            "metric": self.metric if true else None,
            "chance": self.chance if true else None,
            **(true or nothing),
            "controls": {control: of["mean"] for control, of in found.items()},
            "control_intervals": found,
            "by_source": {source: of.mean for source, of in self.sources.items() if of.n},
            "by_status": dict(sorted((+self.statuses).items())),
        }


class _Key(NamedTuple):
    """Which explanation or score; ``of`` names the explainer."""

    of: str
    latent: LatentId
    scorer: str = ""
    control: str = ""


def _nothing() -> dict[str, float]:
    return dict.fromkeys(QUANTITIES, 0)


class Running:
    """Takes note of every row that is written; :meth:`document` may be asked for by any thread."""

    def __init__(self, results: Results) -> None:
        self._lock = Lock()
        self._statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._costs: defaultdict[str, dict[str, float]] = defaultdict(_nothing)
        self._scorers: defaultdict[tuple[str, str], _Scorer] = defaultdict(_Scorer)
        self._failed: dict[_Key, str] = {}  # the kind of failure
        self.changes = 0
        for row in results.query(f"SELECT {EXPLANATION_COLUMNS}, NULL FROM explanations"):
            self.count(read_explanation(row), 1)
        for scored in results.scores():
            self.count(scored, 1)

    def count(self, row: Row, change: Change) -> None:
        """Take note of a row that is there from now on, or that is no more."""
        with self._lock:
            self.changes += 1
            if isinstance(row, Explanation):
                self._count_explanation(row, change)
            elif row.score.explanation is not None and row.score.scorer != SELECT:
                self._count_score(row, row.score.explanation, change)

    def _count_explanation(self, e: Explanation, change: Change) -> None:
        of = _OUTPUTS if e.kind == "output" else e.explainer
        self._statuses[of][e.status] += change
        self._note(_Key(of, e.latent), e.status, e.reason, e.cost, change)

    def _count_score(self, scored: Scored, explanation: str, change: Change) -> None:
        score = scored.score
        *_, kind, explainer = explanation.split(":")
        of = _OUTPUTS if kind == "output" else explainer
        self._scorers[of, score.scorer].count(scored, change)
        key = _Key(of, score.latent, score.scorer, scored.control)
        self._note(key, score.status, score.reason, score.cost, change)

    def _note(self, key: _Key, status: str, reason: str | None, cost: Cost, change: Change) -> None:
        for name in QUANTITIES:
            self._costs[key.of][name] += change * getattr(cost, name)
        self._failed.pop(key, None)
        if status == "failed" and change == 1:
            self._failed[key] = kind_of(reason or "")

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
            failed = [key for key in self._failed if key.of in (explainer, _OUTPUTS)]
            kinds = Counter(self._failed[key] for key in failed)
            return {
                "explained": counts.get("explained", 0),
                "failed": len({key.latent for key in failed}),
                "failures": dict(kinds.most_common()),
                "by_status": counts,
                "scores": scorers,
                "cost": {name: sum(cost[name] for cost in costs) for name in QUANTITIES},
            }
