"""Plots of what stands behind the means: by activation, by source of texts, by coder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.report.latent import number
from autointerp.report.static.svg import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    ORANGE,
    SERIES,
    VIOLET,
    Plot,
    Table,
    drawing,
    finished,
    plain,
    words,
)

Document = Mapping[str, Any]
_MARKERS = "osD^v*X"
_STATUSES = {
    "explained": BLUE,
    "no_explanation": ORANGE,
    "too_few_examples": VIOLET,
    "dead": GRAY,
    "failed": INK,
    "stopped": GREEN,
}


def deciles(by_decile: Mapping[str, Sequence[Document]]) -> Plot | None:
    """Recall by the strength of the activation."""
    if not by_decile:
        return None
    with drawing() as (figure, axes):
        for place, (scorer, means) in enumerate(by_decile.items()):
            at = [mean["decile"] + 1 for mean in means]
            color, marker = SERIES[place % len(SERIES)], _MARKERS[place % len(_MARKERS)]
            values = [mean["mean"] for mean in means]
            label = words(scorer)
            axes.plot(at, values, label=label, color=color, marker=marker, markersize=4)
        axes.set(xlabel="decile of activation, weakest first", ylabel="recall", ylim=(0, 1.03))
        axes.set_xticks(range(1, 11))
        axes.legend(loc="lower right")
        about = (
            "Share of active texts called active, by how strongly the latent fires in them; the"
            " texts of rare latents make fewer groups, which stand for several tenths each."
        )
        ranks = sorted({m["decile"] for means in by_decile.values() for m in means})
        found = {s: {m["decile"]: m["mean"] for m in means} for s, means in by_decile.items()}
        rows = [[str(d + 1), *(number(of.get(d)) for of in found.values())] for d in ranks]
        table = Table(("decile", *map(words, by_decile)), rows)
        return finished(figure, "deciles", "By strength of activation", about, table)


def sources(specificity: Mapping[str, Mapping[str, float]]) -> Plot | None:
    """Share of inactive texts called inactive, by where they come from."""
    names = list(dict.fromkeys(s for found in specificity.values() for s in found))
    if not names:
        return None
    height = 0.8 / len(specificity)
    with drawing((4.4, 1.0 + 0.25 * len(names) * len(specificity))) as (figure, axes):
        for place, (scorer, found) in enumerate(specificity.items()):
            color = SERIES[place % len(SERIES)]
            at = [names.index(source) + place * height for source in found]
            axes.barh(
                at, list(found.values()), height * 0.9, color=color, alpha=0.8, label=words(scorer)
            )
        ticks = [i + height * (len(specificity) - 1) / 2 for i in range(len(names))]
        axes.set_yticks(ticks, [f"{words(name)} texts" for name in names])
        axes.invert_yaxis()
        axes.set(xlabel="specificity", xlim=(0, 1))
        figure.legend(loc="outside upper right", ncols=len(specificity))
        about = "Share of inactive texts called inactive, by where they come from."
        rows = [[words(n), *(number(of.get(n)) for of in specificity.values())] for n in names]
        table = Table(("negatives", *map(words, specificity)), rows)
        return finished(figure, "sources", "By source of inactive texts", about, table)


def coverage(found: Mapping[str, Mapping[str, int]]) -> Plot | None:
    """What became of each coder's latents."""
    statuses = [s for s in _STATUSES if any(s in counts for counts in found.values())]
    if not found:
        return None
    with drawing((4.4, 0.9 + 0.3 * len(found))) as (figure, axes):
        left = [0.0] * len(found)
        for status in statuses:
            counts = [100 * c.get(status, 0) / sum(c.values()) for c in found.values()]
            color = _STATUSES[status]
            axes.barh(range(len(found)), counts, 0.7, left, color=color, label=words(status))
            left = [a + b for a, b in zip(left, counts, strict=True)]
        axes.set_yticks(range(len(found)), [plain(coder) for coder in found])
        axes.invert_yaxis()
        axes.set(xlabel="% of latents", xlim=(0, 100))
        figure.legend(loc="outside upper right", ncols=3)
        about = "What became of the latents of each coder."
        rows = [[c, *(f"{counts.get(s, 0):,}" for s in statuses)] for c, counts in found.items()]
        table = Table(("coder", *map(words, statuses)), rows)
        return finished(figure, "coverage", "Coverage", about, table)
