"""A run's latents one after the other, each with its explanation's status and all its scores.

Rows are read in the order in which the tables hold them, so that memory is that of one latent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from operator import itemgetter
from typing import Any

from autointerp.latents import LatentId
from autointerp.pipeline.following import Following
from autointerp.pipeline.own_texts import EXPLAINER
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import IMPORTED, TRUE
from autointerp.pipeline.standings import SELECT
from autointerp.sections import CASCADE

Metrics = Mapping[str, Sequence[float | None]]  # name → value, low, high, n
_EXPLANATIONS = """
SELECT coder, latent, status, reason, confidence FROM explanations
WHERE kind = 'input' AND explainer = ? ORDER BY coder, latent"""
_OUTPUTS = """
SELECT reason FROM explanations WHERE kind = 'output' AND status = 'failed'"""
_SCORES = """
SELECT coder, latent, explanation, scorer, control, headline, chance, metrics, status, reason
FROM scores WHERE scorer != ? ORDER BY coder, latent"""


@dataclass(frozen=True)
class Judged:
    """One score or control of a latent; ``own`` tells whether the text is its input explanation.

    ``value`` is the headline; None where nothing was scored.
    """

    scorer: str
    control: str
    own: bool
    headline: str
    chance: float
    metrics: Metrics
    status: str
    reason: str | None

    @property
    def value(self) -> float | None:
        found = finite(self.metrics.get(self.headline, (None,))[0])
        return found if self.status == "scored" else None

    @property
    def skill(self) -> float | None:
        """The headline on a scale where chance is 0 and the best is 1."""
        return self._scaled(self.value)

    @property
    def least(self) -> float | None:
        """The skill at the lower limit of the headline's interval; the skill if it has none."""
        low = None if self.value is None else finite(self.metrics[self.headline][1])
        return self.skill if low is None else self._scaled(low)

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None else (value - self.chance) / (1 - self.chance)


def finite(value: float | None) -> float | None:
    """A number, or None for what is none."""
    return value if value is not None and isfinite(value) else None


@dataclass(frozen=True)
class Seen:
    """One latent of the run."""

    latent: LatentId
    status: str
    reason: str | None
    confidence: float | None
    judged: list[Judged] = field(default_factory=list)

    def own(self) -> list[Judged]:
        """The scores of its own input explanation."""
        return [j for j in self.judged if j.own and j.control == TRUE and j.value is not None]


def explainer_of(results: Results) -> str | None:
    """The explainer whose explanations a run is about; where that is not known, of several the
    cascade, else explanations from elsewhere, else who made most. None without any."""
    query = "SELECT explainer, count(*) FROM explanations WHERE kind = 'input' GROUP BY explainer"
    counts: dict[str, int] = dict(results.query(query))
    for name in (results.noted(EXPLAINER), CASCADE, IMPORTED):
        if name in counts:
            return name
    return max(counts, key=counts.__getitem__, default=None)


def latents(results: Results, explainer: str) -> Iterator[Seen]:
    """Every latent that the explainer met, in order."""
    scores = Following(results.query(_SCORES, (SELECT,)), itemgetter(0, 1))
    explained = results.query(_EXPLANATIONS, (explainer,))
    for coder, index, status, reason, confidence in explained:
        latent = LatentId(coder, index)
        own = f"{latent}:input:{explainer}"
        rows = scores.of((coder, index))
        judged = [_judged(row, own) for row in rows if _counts(row[2], own)]
        yield Seen(latent, status, reason, confidence, judged)


def _counts(explanation: str, own: str) -> bool:
    """Whether a score is of the latent's own text, of its effect's, or of no text at all."""
    return explanation in ("", own) or explanation.rsplit(":", 2)[1] == "output"


def _judged(row: tuple[Any, ...], own: str) -> Judged:
    _, _, explanation, scorer, control, headline, chance, metrics, status, reason = row
    return Judged(
        *(scorer, control, explanation == own, headline, chance, json.loads(metrics)),
        *(status, reason),
    )


def failed_effects(results: Results) -> Iterator[str]:
    """Why each failed explanation of an effect failed."""
    return (reason or "" for (reason,) in results.query(_OUTPUTS))
