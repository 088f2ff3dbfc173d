"""A run's latents one by one, each with the explanation that is shown of it and its scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import isfinite
from operator import itemgetter
from typing import Any

from autointerp.pipeline.following import Following
from autointerp.pipeline.own_texts import EXPLAINER, counting
from autointerp.pipeline.results import Results
from autointerp.pipeline.standings import SELECT

_EXPLANATIONS = (
    "SELECT coder, latent, kind, explainer, text, status, reason, confidence FROM explanations"
    " ORDER BY coder, latent, kind, explainer"
)
_SCORES = (
    "SELECT coder, latent, explanation, scorer, headline, metrics FROM scores"
    " WHERE control = '' AND status = 'scored' AND scorer != ? ORDER BY coder, latent"
)
_Row = tuple[Any, ...]


@dataclass(frozen=True)
class Headline:
    """The figure that a scorer is quoted by, with its interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Entry:
    """One latent as it is listed: what it means and how true that is."""

    coder: str
    latent: int
    status: str
    explainer: str
    text: str
    effect: str = ""  # the text of the explanation of what it causes
    reason: str | None = None
    confidence: float | None = None
    density: float | None = None
    maximum: float | None = None
    headlines: Mapping[str, Headline] = field(default_factory=dict)


def entries(results: Results) -> Iterator[Entry]:
    """Every latent of a run with the explanation that counts, ordered by coder and index. Holds one
    latent at a time."""
    explainer = results.noted(EXPLAINER)
    by_latent = groupby(results.query(_EXPLANATIONS), key=itemgetter(0, 1))
    scores = Following(results.query(_SCORES, (SELECT,)), itemgetter(0, 1))
    for (coder, latent), rows in by_latent:
        yield _entry(coder, latent, list(rows), scores.of((coder, latent)), explainer)


def _entry(
    coder: str, latent: int, explained: list[_Row], scores: list[_Row], explainer: str | None
) -> Entry:
    inputs = [row for row in explained if row[2] == "input"]
    effects = [row for row in explained if row[2] == "output"]
    own = counting({row[3]: row for row in inputs or effects}, explainer)
    assert own is not None
    shown = [own, *effects[:1]]
    ids = {"", *(f"{coder}/{latent}:{row[2]}:{row[3]}" for row in shown)}
    headlines = {row[3]: _headline(row[4], row[5]) for row in scores if row[2] in ids}
    return Entry(
        *(coder, latent, own[5], own[3], own[4]),
        effect=effects[0][4] if inputs and effects else "",
        reason=own[6],
        confidence=own[7],
        headlines={scorer: found for scorer, found in headlines.items() if found is not None},
    )


def _headline(name: str, metrics: str) -> Headline | None:
    """None where there is no figure, as of too few items."""
    value, low, high, _ = json.loads(metrics).get(name, (None, None, None, 0))
    return Headline(value, low, high) if value is not None and isfinite(value) else None
