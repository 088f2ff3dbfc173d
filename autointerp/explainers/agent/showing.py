"""How a latent's evidence is written for a language model: marks, and a bounded choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.explainers.agent.roles import EvidenceTable, Excerpt, MeasuredProbe, Misprediction
from autointerp.judges.windows import separator

MOST_TOKENS = 64  # shown of an excerpt, around its peak
BEFORE_PEAK = 44
MOST_MISSED = 12  # mispredicted probes shown of a hypothesis, the latest
_SIGNS = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍", "«": "‹", "»": "›", "‖": "|"})


def marked(excerpt: Excerpt) -> str:
    """The text on one line, with ``«token»7`` for every active token."""
    levels = excerpt.levels
    peak = max(range(len(levels)), key=levels.__getitem__, default=0)
    low = max(0, min(peak - BEFORE_PEAK, len(levels) - MOST_TOKENS))
    pieces = list(_pieces(excerpt))
    shown = "".join(pieces[low : low + MOST_TOKENS])
    left = excerpt.left.translate(_SIGNS) + "‖" if excerpt.left and not low else ""
    before, after = "…" * bool(low), "…" * (low + MOST_TOKENS < len(pieces))
    return left + before + shown + after


def _pieces(excerpt: Excerpt) -> Iterator[str]:
    """Each token as shown, with the blanks that stand before it."""
    # The pieces of a single word bring no blanks either: only the text tells that none are missing.
    gap = "" if "".join(excerpt.tokens) == excerpt.text else separator(excerpt.tokens)
    for place, (token, level) in enumerate(zip(excerpt.tokens, excerpt.levels, strict=True)):
        blanks = gap if place else ""
        text = token.translate(_SIGNS)
        if level:
            core = text.lstrip(" ") or text
            blanks, text = blanks + text[: len(text) - len(core)], f"«{core}»{level}"
        yield blanks + text


@dataclass(frozen=True)
class Missed:
    """The probes that contradict a hypothesis: measured on though predicted off, and so on."""

    hypothesis: str
    predicted: str
    probes: str  # ids; those that do not count in brackets


def missed(mispredictions: Sequence[Misprediction]) -> tuple[list[Missed], list[MeasuredProbe]]:
    """Mispredictions by hypothesis and prediction, and the probes they name, each once."""
    groups: dict[tuple[str, str], list[Misprediction]] = {}
    for miss in mispredictions:
        groups.setdefault((miss.hypothesis, miss.predicted), []).append(miss)
    latest = {key: group[-MOST_MISSED:] for key, group in groups.items()}
    probes = {miss.probe.id: miss.probe for group in latest.values() for miss in group}
    named = [
        Missed(hypothesis, predicted, ", ".join(map(_id, group)))
        for (hypothesis, predicted), group in latest.items()
    ]
    return named, list(probes.values())


def _id(miss: Misprediction) -> str:
    return miss.probe.id if miss.counted else f"({miss.probe.id})"


def values(table: EvidenceTable, probes: Sequence[MeasuredProbe] = ()) -> dict[str, Any]:
    """What every template of the agent gets; ``probes`` are shown besides the table's."""
    shown = {probe.id: probe for probe in (*table.probes, *probes)}
    ordered = sorted(shown.values(), key=lambda probe: int(probe.id[1:]))
    return {"table": table, "probes": ordered, "marked": marked}
