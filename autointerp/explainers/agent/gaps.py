"""The reviewer's first look, in code: what the confirmed hypotheses leave open."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from autointerp.explainers.agent.exemplars import Exemplars
from autointerp.explainers.agent.ledger import Ledger
from autointerp.explainers.agent.roles import Gap, MeasuredProbe
from autointerp.latents import Example

LEAST_COVERAGE = 0.8  # of held-back windows
SHOWN = 3
LEAST_SHARED, SHARED = 4, 0.8  # probes that both foretold to fire, and their share of either's
LEAST_UNEXPLAINED = 2


def gaps(ledger: Ledger) -> list[Gap]:
    """Unclaimed clusters, hypotheses that overlap, probes that nothing explains."""
    return [*_clusters(ledger), *_overlaps(ledger), *_unexplained(ledger)]


def window_gap(exemplars: Exemplars, uncovered: Sequence[Example], asked: int) -> list[Gap]:
    """A gap if the judge finds too few of the held-back windows explained."""
    if len(uncovered) <= (1 - LEAST_COVERAGE) * asked:
        return []
    excerpts = tuple(map(exemplars.excerpt, uncovered[:SHOWN]))
    text = f"{len(uncovered)} of {asked} further active windows are not explained"
    return [Gap("uncovered_windows", text, excerpts=excerpts)]


def _clusters(ledger: Ledger) -> list[Gap]:
    awaited = {c for entry in ledger.at("open") for c in entry.hypothesis.clusters}
    missing = [c for c in ledger.clusters if c.id not in ledger.covered() | awaited]
    return [
        Gap("uncovered_cluster", f"no confirmed hypothesis explains {c.id} (peak {c.peak!r})",
            clusters=(c.id,))
        for c in missing
    ]  # fmt: skip


def _overlaps(ledger: Ledger) -> list[Gap]:
    explained = {
        entry.hypothesis.id: {
            p.id for p in ledger.probes.values()
            if p.reading == "on" and p.plan.predictions.get(entry.hypothesis.id) == "on"
        }
        for entry in ledger.at("settled")
    }  # fmt: skip
    found = []
    for one, other in combinations(explained, 2):
        shared = len(explained[one] & explained[other])
        least = max(len(explained[one]), len(explained[other]))
        if shared >= LEAST_SHARED and shared >= SHARED * least:
            text = f"{one} and {other} explain the same {shared} probes"
            found.append(Gap("overlap", text, hypotheses=(one, other)))
    return found


def _unexplained(ledger: Ledger) -> list[Gap]:
    settled = {entry.hypothesis.id for entry in ledger.at("settled")}
    awaited = {entry.hypothesis.id for entry in ledger.at("open")}

    def unexplained(probe: MeasuredProbe) -> bool:
        said = probe.plan.predictions
        told = {said[name] for name in settled if name in said}
        hoped = any(said.get(name) == "on" for name in awaited)
        return probe.reading == "on" and told == {"off"} and not hoped

    probes = tuple(filter(unexplained, ledger.probes.values()))
    if len(probes) < LEAST_UNEXPLAINED:
        return []
    text = f"{len(probes)} probes measured on that no confirmed hypothesis predicted"
    return [Gap("unexplained_probe", text, probes=probes[-SHOWN:])]
