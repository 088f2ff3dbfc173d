"""The best and the worst explained latents of a run, on the terminal."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.report.latent import number
from autointerp.report.static.reading import finite
from autointerp.report.static.sums import Best
from autointerp.report.tokens import legible

BEST_AND_WORST = 10
SCORERS_BESIDE = 3  # that the tables show at most
FEWEST_COLUMNS = 36  # of the terminal, that explanations have there
_SCORED = """
SELECT s.coder, s.latent, s.explanation, e.text, s.scorer, s.headline, s.metrics
FROM scores s JOIN explanations e ON e.coder = s.coder AND e.latent = s.latent
    AND s.explanation = e.coder || '/' || e.latent || ':' || e.kind || ':' || e.explainer
WHERE e.explainer = ? AND e.status = 'explained' AND s.control = '' AND s.status = 'scored'
ORDER BY s.coder, s.latent, s.explanation, s.scorer"""
_FIRST = """
SELECT coder, latent FROM explanations WHERE explainer = ? AND status = 'explained'
ORDER BY coder, latent LIMIT 1"""


@dataclass(frozen=True)
class Ranked:
    """An explained latent, and its headline by scorer."""

    latent: LatentId
    text: str
    headlines: Mapping[str, float]


@dataclass(frozen=True)
class Ranking:
    """The best latents by the first of ``scorers``, and of the others the worst; best first."""

    scorers: Sequence[str]
    best: Sequence[Ranked]
    worst: Sequence[Ranked]


def print_latents(console: Console, results: Results, explainer: str, run: Path) -> None:
    """The ten best and the ten worst explained latents, the headlines of other scorers beside
    that which they are ranked by; and how to look at all of them, and at one."""
    found = ranking(results, explainer)
    for title, rows in (("best explained", found.best), ("worst explained", found.worst)):
        if rows:
            title = f"{title}, by {found.scorers[0]}"
            console.print(_table(title, rows, found, console.width))
    print_next(console, results, explainer, run, found.best[0].latent if found.best else None)


def print_next(
    console: Console, results: Results, explainer: str, run: Path, latent: LatentId | None = None
) -> None:
    """How to look at all latents, and at one: the first explained, unless one is given."""
    shown = latent or _first(results, explainer)
    if shown is not None:
        _print_command(console, "make a report of all", "report", str(run))
        _print_command(console, "look at one latent", "show", str(run), str(shown))


def _print_command(console: Console, what: str, *words: str) -> None:
    line = f"{what}: {shlex.join(['autointerp', *words])}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def ranking(results: Results, explainer: str) -> Ranking:
    """By the headline of the first scorer by name. Rows go by one at a time."""
    best: dict[str, Best[Ranked]] = defaultdict(lambda: Best(BEST_AND_WORST))
    worst: dict[str, Best[Ranked]] = defaultdict(lambda: Best(BEST_AND_WORST))
    for place, latent in enumerate(_scored(results, explainer)):
        for scorer, value in latent.headlines.items():
            best[scorer].add((value,), latent)
            worst[scorer].add((-value, place), latent)  # of equals the last
    scorers = sorted(best)
    if not scorers:
        return Ranking((), (), ())
    first = list(best[scorers[0]])
    others = [latent for latent in worst[scorers[0]] if latent not in first]
    return Ranking(scorers, first, others[::-1])


def _scored(results: Results, explainer: str) -> Iterator[Ranked]:
    rows = results.query(_SCORED, (explainer,))
    for (coder, index, _, text), group in groupby(rows, lambda row: row[:4]):
        values = {
            scorer: finite(json.loads(metrics).get(headline, (None,))[0])
            for *_, scorer, headline, metrics in group
        }
        known = {scorer: value for scorer, value in values.items() if value is not None}
        yield Ranked(LatentId(coder, index), text, known)


def _first(results: Results, explainer: str) -> LatentId | None:
    row = next(results.query(_FIRST, (explainer,)), None)
    return None if row is None else LatentId(*row)


def _table(title: str, rows: Sequence[Ranked], found: Ranking, width: int) -> Table:
    table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), collapse_padding=True)
    names = max(len(str(row.latent)) for row in (*found.best, *found.worst))
    shown = _beside(found.scorers, width - names)
    if len(shown) < len(found.scorers):
        table.title = f"{title} ({len(shown)} of {len(found.scorers)} scorers)"
    for heading in ("latent", *shown):
        table.add_column(heading, no_wrap=True)
    table.add_column("explanation", overflow="fold", min_width=FEWEST_COLUMNS)
    for row in rows:
        values = [number(row.headlines.get(scorer)) for scorer in shown]
        table.add_row(str(row.latent), *values, Text(legible(row.text)))
    return table


def _beside(scorers: Sequence[str], width: int) -> list[str]:
    """The first scorers, as many as leave explanations enough of so many columns."""
    shown: list[str] = []
    for scorer in scorers[:SCORERS_BESIDE]:
        width -= max(len(scorer), 5) + 2
        if width >= FEWEST_COLUMNS or not shown:
            shown.append(scorer)
    return shown
