"""The report of a run: its figures as a document, and the page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline.published import NO_STORE, Examples
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import SCORED_STATUSES
from autointerp.pipeline.status import ENDED, read_status
from autointerp.pipeline.summary import collected, summarise
from autointerp.report.configuration import configuration
from autointerp.report.console import cautions
from autointerp.report.latent import number
from autointerp.report.progress import counted
from autointerp.report.static.cards import Card, card
from autointerp.report.static.drawn import drawn
from autointerp.report.static.figures import Density, document, tallied
from autointerp.report.static.overview import overview
from autointerp.report.static.reading import explainer_of
from autointerp.report.static.svg import words
from autointerp.report.static.tally import Tally
from autointerp.report.tokens import TEMPLATES, environment

Document = dict[str, Any]
Describe = Callable[[LatentId], Document]  # the document of ``show``
OWN = Path(__file__).parent / "templates"
_GROUPS = {
    "best": (
        "Best explained",
        "The highest mean over the scorers of the explanation, on a scale where chance is 0 and"
        " the best is 1.",
    ),
    "worst": ("Worst explained", "The lowest mean of those."),
    "surprising": (
        "Most surprising",
        "Where scorers disagree most, or the explainer’s confidence and the scores: a fault of"
        " the explanation, of a scorer, or something to learn.",
    ),
}


@dataclass(frozen=True)
class Run:
    """A run to report of: its directory, its results, and what there is of its examples."""

    path: Path
    results: Results
    examples: Examples | None
    describe: Describe


@dataclass(frozen=True)
class Again:
    """A latent that is shown above, in the element ``id``."""

    id: str
    latent: str
    why: str


@dataclass(frozen=True)
class Group:
    """Latents of the page that are shown for the same reason; ``id`` is that of its heading.

    Those of ``again`` have their cards in an earlier group.
    """

    id: str
    title: str
    about: str
    cards: list[Card]
    again: list[Again]


@dataclass(frozen=True)
class Report:
    """A run's figures, and the page."""

    figures: Document
    html: str


def report(run: Run) -> Report:
    """Read a run and make its report; memory does not grow with its latents.

    Raises:
        AutointerpError: if nothing was explained yet.
    """
    seed = configuration(run.path).get("run", {}).get("seed", 0)
    explainer = _explainer(run)
    with run.results.unchanging():
        tally = tallied(run.results, explainer, _density(run.examples), seed)
        figures = document(tally, run.results, explainer, _summary(run, explainer, seed))
    return Report(figures, _page(run, figures, tally))


def _explainer(run: Run) -> str:
    explainer = explainer_of(run.results)
    if explainer is None:
        raise AutointerpError(f"{run.path} has no explanations yet; `autointerp run` makes them")
    return explainer


def _summary(run: Run, explainer: str, seed: int) -> Document:
    """The run's last word on itself, if it has ended and that is of these explanations; else made
    anew, with what it says of its stage."""
    status = read_status(run.path) or {}
    counts = run.results.statuses(explainer)
    if status.get("stage") in ENDED and status.get("by_status") == counts:
        return status
    before = status.get("seconds", 0.0)
    anew = summarise(
        run.results, run=run.path, explainer=explainer, planned=0, seconds=before, seed=seed
    )
    return anew | {name: status[name] for name in ("stage", "reason") if name in status}


def _density(examples: Examples | None) -> Density:
    """Looks up densities: a number a latent is held, of the coders that are asked for."""
    if isinstance(examples, ExampleStore):
        shares = {name: record.density for name, record in examples.coders.items()}
        nothing = np.zeros(0)

        def stored(latent: LatentId) -> float | None:
            of = shares.get(latent.coder, nothing)
            return float(of[latent.index]) if latent.index < len(of) else None

        return stored
    if examples is None:
        return lambda latent: None

    @cache
    def published(coder: str) -> dict[int, float]:
        measured = examples.measured(coder)
        return dict(zip(measured["index"].tolist(), measured["density"].tolist(), strict=True))

    return lambda latent: published(latent.coder).get(latent.index)


def _page(run: Run, figures: Document, tally: Tally) -> str:
    template = environment(OWN).get_template("report.html.j2")
    shown = overview(run.path)
    return template.render(
        name=run.path.resolve().name,
        figures=figures,
        overview=shown,
        collected=_collected(run),
        notice=_notice(run.examples),
        ended=figures.get("stage", "done") in ENDED,
        plots=drawn(figures, tally.points),
        groups=[group for group in _groups(run, figures) if group.cards or group.again],
        sample=tally.points,
        style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        number=number,
        words=words,
        cautions=cautions,
        duration=duration,
        untested=untested,
    )


def _collected(run: Run) -> Document | None:
    return collected(run.examples, run.path) if isinstance(run.examples, ExampleStore) else None


def _notice(examples: Examples | None) -> str:
    """What a reader should know of the examples, if anything."""
    if isinstance(examples, ExampleStore):
        return ""
    return NO_STORE if examples is None else examples.notice


def _groups(run: Run, figures: Document) -> Iterator[Group]:
    ids: dict[str, str] = {}
    for name, (title, about) in _GROUPS.items():
        said = name == "surprising"  # elsewhere the scores say it all
        new = [p for p in figures[name] if p["latent"] not in ids]
        again = [
            Again(ids[p["latent"]], p["latent"], p["why"])
            for p in figures[name]
            if p["latent"] in ids
        ]
        cards = []
        for pick in new:
            latent = pick["latent"]
            ids[latent] = f"latent-{len(ids)}"
            described = run.describe(LatentId.parse(latent))
            cards.append(card(ids[latent], described, pick["why"] if said else ""))
        yield Group(name, title, about, cards, again)


def untested(scorer: str, figures: Document) -> str:
    """Why a scorer has no score of some latents; "" if it has one of each."""
    of = figures["scores"][scorer]["by_status"]
    others = {status: n for status, n in of.items() if status != "scored"}
    without: dict[str, int] = {}
    if sum(of.values()) < figures["latents"]:  # it scores what was explained
        found = figures["by_status"].items()
        without = {status: n for status, n in found if status not in SCORED_STATUSES}
    why = [
        f"{what}: {counted(which)}"
        for what, which in (("without a text to test", without), ("of the others", others))
        if which
    ]
    told = f"{scorer}: {of.get('scored', 0):,} of {figures['latents']:,} latents have a score"
    return words("; ".join([told, *why])) + "." if why else ""


def duration(seconds: float) -> str:
    """As people say it: two units at most."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
