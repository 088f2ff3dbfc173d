"""Explanations and scores as rows of the run's SQLite file, and back.

Outcomes are one compressed blob a score, not rows.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from autointerp.latents import Cost, Explanation, LatentId, Metric, Outcome, Score

TRUE = ""  # the control column of a score of the latent's own explanation
IMPORTED = "imported"  # the explainer of explanations from elsewhere
SCORED_STATUSES = ("explained", "no_explanation")  # of explanations that are scored


def is_scored(explanation: Explanation) -> bool:
    """Whether an explanation has a text to be judged."""
    return explanation.status in SCORED_STATUSES and bool(explanation.text)


@dataclass(frozen=True)
class Scored:
    """A score, and which control it is; ``control`` is ``""`` for the true explanation."""

    score: Score
    control: str = TRUE


def counts_for(explanation: str | None, explainer: str) -> bool:
    """Whether a score of the explanation of this id is one of this explainer's, or of what a latent
    causes."""
    *_, kind, name = (explanation or "::").split(":")
    return kind == "output" or name == explainer


EXPLANATION_COLUMNS = (
    "coder, latent, kind, explainer, text, status, reason, components, confidence, cost"
)


def explanation_row(e: Explanation) -> tuple[Any, ...]:
    return (
        *(e.latent.coder, e.latent.index, e.kind, e.explainer, e.text, e.status, e.reason),
        *(json.dumps(e.components), e.confidence, json.dumps(vars(e.cost))),
        zlib.compress(json.dumps(dict(e.details), separators=(",", ":")).encode(), 6),
    )


def read_explanation(row: Sequence[Any]) -> Explanation:
    """``row`` has the explanation's columns and, packed or None, its details."""
    coder, index, kind, explainer, text, status, reason, components, confidence, cost, packed = row
    return Explanation(
        latent=LatentId(coder, index),
        kind=kind,
        explainer=explainer,
        text=text,
        status=status,
        reason=reason,
        components=tuple(json.loads(components)),
        confidence=confidence,
        cost=Cost(**json.loads(cost)),
        details={} if packed is None else json.loads(zlib.decompress(packed)),
    )


LIGHT_SCORE_COLUMNS = (  # all, but for the outcomes
    "coder, latent, explanation, scorer, control, judge, headline, chance, metrics, "
    "status, reason, cost, details, NULL"
)


def score_row(scored: Scored) -> tuple[Any, ...]:
    s = scored.score
    metrics = {name: [m.value, m.low, m.high, m.n] for name, m in s.metrics.items()}
    return (
        *(s.latent.coder, s.latent.index, s.explanation or "", s.scorer, scored.control),
        *(s.judge, s.headline, s.chance, json.dumps(metrics), s.status, s.reason),
        *(json.dumps(vars(s.cost)), json.dumps(dict(s.details)), pack_outcomes(s.outcomes)),
    )


def read_scored(row: Sequence[Any]) -> Scored:
    coder, index, explanation, scorer, control, judge, headline, chance = row[:8]
    metrics, status, reason, cost, details, outcomes = row[8:]
    score = Score(
        latent=LatentId(coder, index),
        explanation=explanation or None,
        scorer=scorer,
        judge=judge,
        headline=headline,
        chance=chance,
        metrics={name: Metric(*values) for name, values in json.loads(metrics).items()},
        outcomes=unpack_outcomes(outcomes) if outcomes is not None else (),
        status=status,
        reason=reason,
        cost=Cost(**json.loads(cost)),
        details=json.loads(details),
    )
    return Scored(score, control)


_REQUESTS = "requests"
_OUTCOMES: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Outcome)}


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Outcomes as columns by kind, with their places, compressed.

    Requests, of which every name serves several outcomes, are numbers of a list of their own.
    """
    places: dict[type[Outcome], list[int]] = {}
    for place, outcome in enumerate(outcomes):
        places.setdefault(type(outcome), []).append(place)
    requests: dict[str, int] = {}
    columns: dict[str, dict[str, Sequence[Any]]] = {}
    for kind, at in places.items():
        values = zip(*(outcomes[place] for place in at), strict=True)
        column: dict[str, Sequence[Any]] = dict(zip(kind._fields, values, strict=True))
        if "request" in column:
            column["request"] = [_numbered(name, requests) for name in column["request"]]
        columns[kind.__name__] = {"place": at, **column}
    packed = {**columns, **({_REQUESTS: list(requests)} if requests else {})}
    return zlib.compress(json.dumps(packed, separators=(",", ":")).encode(), 6)


def _numbered(name: str | None, numbers: dict[str, int]) -> int | None:
    return None if name is None else numbers.setdefault(name, len(numbers))


def unpack_outcomes(blob: bytes) -> list[Outcome]:
    """The outcomes of :func:`pack_outcomes`, in their order."""
    columns: dict[str, Any] = json.loads(zlib.decompress(blob))
    requests: list[str] = columns.pop(_REQUESTS, [])
    placed: dict[int, Outcome] = {}
    for name, kind in columns.items():
        if requests and "request" in kind:
            kind["request"] = [None if r is None else requests[r] for r in kind["request"]]
        fields = [field for field in kind if field != "place"]
        for place, *values in zip(kind["place"], *(kind[f] for f in fields), strict=True):
            placed[place] = _OUTCOMES[name](
                **{
                    f: tuple(v) if isinstance(v, list) else v
                    for f, v in zip(fields, values, strict=True)
                }
            )
    return [placed[place] for place in sorted(placed)]
