"""Matplotlib figures as SVG that takes its colours and letters from the page around it.

Figures are drawn in stand-in colours, which become ``currentColor`` and the page's variables; so
one drawing is readable on light and on dark. Nothing in it refers to anything outside.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from autointerp.report.tokens import legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#010101", "#020202", "#030303"
BLUE, ORANGE, VIOLET, GREEN, GRAY = "#010105", "#010106", "#010107", "#010108", "#010109"
SERIES = (BLUE, ORANGE, VIOLET, GREEN, GRAY)
_PAGE = {
    INK: "currentColor",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    VIOLET: "var(--violet)",
    GREEN: "var(--green)",
    GRAY: "var(--gray)",
}
_STYLE: dict[Any, Any] = {  # of matplotlib
    "svg.fonttype": "none",
    "svg.hashsalt": "autointerp",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
POINTS = 72  # units of an SVG to an inch
_SIZE = (4.4, 2.9)  # inches
_FONT = re.compile(r"font: (?:[a-z]+ )*([\d.]+)px [^;\"]*")
_ID = re.compile(r"""(\bid="|url\(#|\bhref="#)""")
_UNNEEDED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """A plot's figures, for those who do not see it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """A drawing, ``width`` by ``height`` units, with its title, what it shows in words, and its
    figures; ``name`` begins all ids in it."""

    name: str
    drawing: Markup
    width: float
    height: float
    title: str
    about: str
    table: Table


@contextmanager
def drawing(size: tuple[float, float] = _SIZE) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one pair of axes, in this module's style, for :func:`finished`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots()


def finished(figure: Figure, name: str, title: str, about: str, table: Table) -> Plot:
    """The figure as a plot; to be called while drawing. ``name`` is unique in the page."""
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():  # letters are left to the page, which has fonts of its own
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    text = written.getvalue()
    width, height = (float(side) * POINTS for side in figure.get_size_inches())
    return Plot(name, _drawing(text, name), width, height, title, about, table)


def _drawing(text: str, name: str) -> Markup:
    """What the SVG element holds, with its ids, colours and letters made fit for the page."""
    begin = text.index(">", text.index("<svg")) + 1
    body = text[begin : text.rindex("</svg>")]
    body = _UNNEEDED.sub("", body)
    body = _ID.sub(rf"\1{name}-", body).replace("xlink:href", "href")
    body = _FONT.sub(r"font-size: \1px", body)
    for stand_in, real in _PAGE.items():
        body = body.replace(stand_in, real)
    return Markup(body)


def words(name: str) -> str:
    """A name as people read it."""
    return name.replace("_", " ")


def identifier(text: str) -> str:
    """A name that may be part of an id, whatever characters it has."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in text)


def plain(text: str) -> str:
    """A name of the user's, which matplotlib is not to read as a formula."""
    return legible(text).replace("$", r"\$")
