"""Plots with a point a latent: one scorer against another, and against density."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from autointerp.report.latent import number
from autointerp.report.static.svg import (
    BLUE,
    ORANGE,
    Plot,
    Table,
    drawing,
    finished,
    identifier,
    words,
)
from autointerp.report.static.tally import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
PAIRS_SHOWN, DENSITIES_SHOWN = 6, 3
LEAST = 5  # latents, of which a plot shows anything
MANY = 200  # points that lie over one another
ROUNDING = 1e-9


def scatters(agreement: Sequence[Document], points: Sequence[Point]) -> Iterator[Plot]:
    """One scorer's headline against another's, a latent a point."""
    enough = [pair for pair in agreement if pair["n"] >= LEAST]
    for pair in enough[:PAIRS_SHOWN]:
        a, b = pair["scorers"]
        both = [(p.values[a], p.values[b]) for p in points if a in p.values and b in p.values]
        n, r = f"{pair['n']:,}", number(pair["correlation"])
        with drawing((4.4, 3.3)) as (figure, axes):
            _dots(axes, both)
            axes.set(xlabel=words(a), ylabel=words(b))
            about = f"A point is a latent; correlation over {n} latents: {r}. {_drawn(both)}"
            table = Table(("scorers", "latents", "correlation"), [[f"{a}, {b}", n, r]])
            name = f"scatter-{identifier(a)}-{identifier(b)}"
            yield finished(figure, name, f"{words(a)} and {words(b)}", about, table)


def _dots(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    size, alpha = (5, 0.7) if len(points) < MANY else (3, 0.35)
    x, y = [x for x, _ in points], [y for _, y in points]
    axes.plot(x, y, "o", color=BLUE, alpha=alpha, markersize=size, markeredgewidth=0)


def _drawn(points: Sequence[object]) -> str:
    """What is drawn, for what the dots alone do not tell."""
    return f"Drawn: {len(points):,}."


def densities(
    by_scorer: Mapping[str, Sequence[Document]], points: Sequence[Point]
) -> Iterator[Plot]:
    """Headlines against the share of tokens that a latent fires on."""
    enough = [s for s, means in by_scorer.items() if sum(m["n"] for m in means) >= LEAST]
    for scorer in enough[:DENSITIES_SHOWN]:
        both = [(p.density, p.values[scorer]) for p in points if p.density and scorer in p.values]
        means = by_scorer[scorer]
        middles = [(m["from"] * m["to"]) ** 0.5 for m in means]
        with drawing() as (figure, axes):
            _dots(axes, both)
            axes.plot(middles, [m["mean"] for m in means], color=ORANGE, marker="D", markersize=4)
            axes.set(xscale="log", xlabel="share of tokens it fires on", ylabel=words(scorer))
            axes.set_xlim(*_decades(means))
            about = f"A point is a latent, the line the mean of each half decade. {_drawn(both)}"
            rows = [
                [f"{m['from']:.2g} to {m['to']:.2g}", f"{m['n']:,}", number(m["mean"])]
                for m in means
            ]
            table = Table(("density", "latents", "mean"), rows)
            name, title = f"density-{identifier(scorer)}", f"{words(scorer)} by density"
            yield finished(figure, name, title, about, table)


def _decades(means: Sequence[Document]) -> tuple[float, float]:
    """Whole powers of ten around the bins, so that at least two are marked."""
    lowest, highest = means[0]["from"], means[-1]["to"]
    return 10.0 ** floor(log10(lowest) + ROUNDING), 10.0 ** ceil(log10(highest) - ROUNDING)
