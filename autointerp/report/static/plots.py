"""The plots of the report, each from its figures in the document of ``report --json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from autointerp.report.latent import number
from autointerp.report.static.svg import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    LINE,
    ORANGE,
    SOFT,
    VIOLET,
    Plot,
    Table,
    drawing,
    finished,
    identifier,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Document = Mapping[str, Any]
MERGED = 2  # bins of a histogram that are drawn as one
OWN, OWN_ROWS = "own text", 2.5  # that many times as high as a control's
ROW, FILLED = 0.36, 0.88  # inches of a control, and the share of a row that its bars may fill
_COLORS = {"token_list": GREEN, "neighbour": VIOLET, "shuffled": ORANGE, "empty": GRAY}


def _color(what: str) -> str:
    return BLUE if what == OWN else _COLORS.get(what, GRAY)


def means(scores: Document) -> Plot | None:
    """Every scorer's mean headline with its interval, and those of its controls."""
    rows = [row for scorer, figures in scores.items() for row in _means(scorer, figures)]
    if not rows:
        return None
    with drawing((4.4, 0.7 + 0.24 * len(rows))) as (figure, axes):
        for place, (_, what, mean) in enumerate(rows):
            color = _color(what)
            middle, low, high = (mean[key] for key in ("mean", "low", "high"))
            axes.plot([low, high], [place, place], color=color, linewidth=1.4)
            filled = color if what == OWN else "none"
            axes.plot(middle, place, "o", color=color, markerfacecolor=filled, markersize=5)
        axes.set_yticks(range(len(rows)), [_row_label(scorer, what) for scorer, what, _ in rows])
        axes.invert_yaxis()
        axes.set_xlabel("mean headline, 95 % interval")
        about = "Mean headline of every scorer for the latents’ own explanations and for controls."
        table = Table(("scorer", "text", "n", "mean", "low", "high"), [_mean_row(*r) for r in rows])
        return finished(figure, "means", "Means and controls", about, table)


def _means(scorer: str, figures: Document) -> Iterator[tuple[str, str, Document]]:
    if figures.get("mean") is not None:
        yield scorer, OWN, figures
        for control, mean in figures.get("control_intervals", {}).items():
            yield scorer, control, mean


def _row_label(scorer: str, what: str) -> str:
    return words(scorer) if what == OWN else words(what)


def _mean_row(scorer: str, what: str, mean: Document) -> list[str]:
    figures = (number(mean[key]) for key in ("mean", "low", "high"))
    return [words(scorer), words(what), f"{mean['n']:,}", *figures]


def distribution(scorer: str, figures: Document) -> Plot | None:
    """How one scorer's headline lies over latents, and, a row each below, over its controls."""
    if figures["true"] is None:
        return None
    series = _series(figures)
    metric, chance = words(figures["metric"]), figures["chance"]
    with drawing((4.4, 1.5 + ROW * (len(series) - 1))) as (figure, axes):
        bottom, middles = 0.0, []
        for what, histogram in reversed(series.items()):
            height = OWN_ROWS if what == OWN else 1.0
            _row(axes, histogram, what, bottom, height)
            middles.append(bottom + height * FILLED / 2)
            bottom += height
        labels = [f"{words(what)} (n = {h['n']:,})" for what, h in reversed(series.items())]
        axes.set_yticks(middles, labels)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.axvline(chance, color=SOFT, linewidth=1, linestyle=(0, (2, 2)))
        axes.set(xlabel=f"{metric} (dashes: chance)", ylim=(0, bottom))
        about = (
            f"Each row is a histogram over latents, to its own height, with a stroke at its mean;"
            f" that of the own texts is {number(figures['true']['mean'])}."
        )
        name, title = f"distribution-{identifier(scorer)}", f"{words(scorer)}: {metric}"
        return finished(figure, name, title, about, _distribution_table(figures))


def _series(figures: Document) -> dict[str, Document]:
    """The histograms by what was scored, the own texts first, then the controls as elsewhere."""
    controls = figures["controls"]
    order = [*(c for c in _COLORS if c in controls), *(c for c in controls if c not in _COLORS)]
    return {OWN: figures["true"], **{control: controls[control] for control in order}}


def _row(axes: Axes, histogram: Document, what: str, bottom: float, height: float) -> None:
    lows, shares = _merged(histogram)
    scale = FILLED * height / max(shares)
    width = histogram["width"] * MERGED
    heights = [share * scale for share in shares]
    axes.bar(lows, heights, width, bottom, align="edge", color=_color(what), alpha=0.75)
    mean = histogram["mean"]
    axes.plot([mean, mean], [bottom, bottom + FILLED * height], color=INK, linewidth=1.6)
    axes.axhline(bottom, color=LINE, linewidth=0.6)


def _merged(histogram: Document) -> tuple[list[float], list[float]]:
    """The lower edges of wider bins, and the share of each in per cent."""
    width = histogram["width"]
    place = round((histogram["from"] + 1) / width)
    padded = [0] * (place % MERGED) + list(histogram["counts"])
    groups = [padded[i : i + MERGED] for i in range(0, len(padded), MERGED)]
    first = (place - place % MERGED) * width - 1
    lows = [first + i * MERGED * width for i in range(len(groups))]
    return lows, [100 * sum(group) / histogram["n"] for group in groups]


def _distribution_table(figures: Document) -> Table:
    series = _series(figures)
    merged = {what: _merged(histogram) for what, histogram in series.items()}
    shares = {
        what: {round(low, 3): share for low, share in zip(*both, strict=True)}
        for what, both in merged.items()
    }
    lows = sorted({low for found in shares.values() for low in found})
    width = figures["true"]["width"] * MERGED
    rows = [
        [f"{low:.2f} to {low + width:.2f}", *(f"{s.get(low, 0):.1f} %" for s in shares.values())]
        for low in lows
    ]
    return Table((words(figures["metric"]), *map(words, series)), rows)
