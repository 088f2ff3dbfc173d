"""All plots of the page, by the section they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autointerp.report.static import breakdowns, plots, scatter
from autointerp.report.static.sums import Sample
from autointerp.report.static.svg import Plot
from autointerp.report.static.tally import Point


def drawn(figures: Mapping[str, Any], sample: Sample[Point]) -> dict[str, list[Plot]]:
    """From the document of ``report --json``, and a sample of its latents."""
    points = sample.items
    made: dict[str, list[Plot | None]] = {
        "means": [plots.means(figures["scores"])],
        "distributions": [plots.distribution(*item) for item in figures["distributions"].items()],
        "breakdowns": [
            breakdowns.deciles(figures["by_decile"]),
            breakdowns.sources(figures["specificity"]),
        ],
        "scatters": [*scatter.scatters(figures["agreement"], points)],
        "densities": [*scatter.densities(figures["density"], points)],
        "coverage": [breakdowns.coverage(figures["coverage"])],
    }
    return {name: [plot for plot in found if plot] for name, found in made.items()}
