"""The JSON documents of a run as a whole, read from its directory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.store import ExampleStore
from autointerp.latents import SOURCES, SPLITS
from autointerp.pipeline.agreement import noted_agreement
from autointerp.pipeline.columns import QUANTITIES, Columns, Values
from autointerp.pipeline.failing import failure_kinds, failures
from autointerp.pipeline.figures import dependence, figures
from autointerp.pipeline.repeats import REPEAT, judge_error
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, counts_for
from autointerp.pipeline.standings import SELECT, report
from autointerp.sections import CASCADE
from autointerp.statistics import bootstrap_mean

Document = dict[str, Any]


def summarise(
    results: Results, *, run: Path, explainer: str, planned: int, seconds: float, seed: int = 0
) -> Document:
    """The document of ``run``, ``score`` and ``status``. Rows go by one at a time."""
    statuses = results.statuses(explainer)
    tiers = {"cascade": report(results)} if explainer == CASCADE else {}
    rerun = noted_agreement(results, explainer)
    columns: dict[str, Columns] = defaultdict(Columns)
    cost = _explained_cost(results, explainer)
    for scored in results.scores():
        if scored.score.scorer != SELECT and counts_for(scored.score.explanation, explainer):
            columns[scored.score.scorer].add(scored)
            for name in QUANTITIES:
                cost[name] += getattr(scored.score.cost, name)
    return {
        **tiers,
        "run": str(run),
        "latents": max(planned, sum(statuses.values())),
        "explained": statuses.get("explained", 0),
        "failed": len({latent for latent, _ in failures(results, explainer)}),
        "failures": failure_kinds(results, explainer),
        "by_status": statuses,
        "scores": {
            name: _scorer(results, name, found, explainer, seed)
            for name, found in sorted(columns.items())
        },
        **({"rerun": rerun} if rerun else {}),
        "cost": cost,
        "seconds": seconds,
    }


def _scorer(results: Results, name: str, columns: Columns, explainer: str, seed: int) -> Document:
    """One scorer's figures over all latents that it could score."""
    true, headline = columns.true, columns.headline or None
    document: Document = {
        "metric": headline,
        "n": len(true),
        "mean": None,
        "low": None,
        "high": None,
        "chance": columns.chance if headline else None,
        "controls": {},
        "control_intervals": {},
        "lifts": {},
        "by_source": {},
        "by_coder": {},
        "by_status": dict(sorted(columns.statuses.items())),
    }
    if not len(true):
        return document
    document |= _mean(columns, true, seed)
    controls = {c: v for c, v in sorted(columns.controls.items()) if c not in (TRUE, REPEAT)}
    intervals = {name: _mean(columns, values, seed) for name, values in controls.items()}
    document["control_intervals"] = intervals
    document["controls"] = {name: interval["mean"] for name, interval in intervals.items()}
    lifts = {c: v for c, v in sorted(columns.lifts.items()) if c != REPEAT}
    document["lifts"] = {name: _mean(columns, values, seed) for name, values in lifts.items()}
    sources = {s: columns.sources[s] for s in SOURCES if s in columns.sources}
    document["by_source"] = {s: float(values.numbers().mean()) for s, values in sources.items()}
    document |= figures(columns, dependence(results, name, explainer, seed))
    for coder in sorted(set(columns.coders)):
        values = true.of(columns.coders.index(coder))
        if len(values):
            document["by_coder"][coder] = _interval(values, [coder] * len(values), seed)
    repeated = REPEAT in columns.controls
    error = judge_error(results, name, explainer) if repeated else None
    return document | ({"judge_error": error} if error else {})


def _mean(columns: Columns, found: Values, seed: int) -> Document:
    groups = [columns.coders[coder] for coder in found.coders]
    return _interval(found.numbers(), groups, seed)


def _interval(values: NDArray[np.float64], groups: Sequence[str], seed: int) -> Document:
    interval = bootstrap_mean(values, groups, seed=seed)
    return {
        "n": len(values),
        "mean": interval.value,
        "low": interval.low,
        "high": interval.high,
    }


def _explained_cost(results: Results, explainer: str) -> Document:
    """Of this explainer's explanations, and of those of what latents cause."""
    sums = ", ".join(f"total(json_extract(cost, '$.{name}'))" for name in QUANTITIES)
    query = f"SELECT {sums} FROM explanations WHERE explainer = ? OR kind = 'output'"
    (row,) = results.query(query, (explainer,))
    *counts, dollars = row
    return dict(zip(QUANTITIES, [*map(int, counts), dollars], strict=True))


def collected(store: ExampleStore, run: Path) -> Document:
    """The document of ``collect``."""
    splits = store.document_split
    return {
        "run": str(run),
        "tokens": store.token_count,
        "documents": {name: int((splits == i).sum()) for i, name in enumerate(SPLITS)},
        "hookpoints": {
            name: {
                "hook": record.hook,
                "width": record.width,
                "alive": record.alive,
                "dead": record.dead,
                "rare": record.rare,
                "l0": record.l0,
                "variance_explained": record.variance_explained,
                "claims": record.claims,
            }
            for name, record in store.coders.items()
        },
        "fingerprint": store.fingerprint,
        **store.header["report"],
    }
