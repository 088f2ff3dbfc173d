"""The stages as shards do them: each over its own part, into its own directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline import directory
from autointerp.pipeline import run as work
from autointerp.pipeline.plan import blocks, indices
from autointerp.pipeline.results import Results
from autointerp.pipeline.scorable import check_explained
from autointerp.pipeline.session import Session
from autointerp.pipeline.shards import Finished, Part, check_merged
from autointerp.pipeline.standings import SELECT

Table = Literal["explanations", "scores"]
Condition = tuple[Table, str]

# The rows that a stage writes, by table; a cascade's scores on SELECT are made while explaining.
ROWS: Mapping[str, Sequence[Condition]] = {
    "explain": (("explanations", "1"), ("scores", f"scorer = '{SELECT}'")),
    "score": (("scores", f"scorer != '{SELECT}'"),),
}


def collect_part(s: Session, part: Part) -> ExampleStore:
    """Collect the examples of a shard's documents into a store of its own.

    Raises:
        AutointerpError: for input that cannot work, before any long work.
    """
    run = s.config.run.path
    if part.state(run) == "absent":
        part.begin(run)
    store = work.collect(s)
    part.finish(run, {"tokens": store.token_count, "fingerprint": store.fingerprint})
    return store


def explain_part(s: Session, part: Part) -> None:
    """Explain a shard's own latents.

    Raises:
        AutointerpError: if the run has no complete store.
        StoppedError: if too many latents fail, or a budget is spent.
    """
    store = work.collect(s)
    plan = work.chosen(s, store)
    _begin(s, part, plan)
    work.explain(s, store, plan)
    _finish(s, part, plan)


def score_part(s: Session, part: Part) -> None:
    """Score the explanations of a shard's own latents.

    Raises:
        AutointerpError: if the run has no complete store, no explanations, or not all of them.
        StoppedError: if too many latents fail, or a budget is spent.
    """
    check_merged(s.config.run.path, ("explain",), str(part))
    store = work.collect(s)
    plan = work.chosen(s, store)
    check_explained(s, plan)
    _begin(s, part, plan)
    work.score(s, store, plan)
    _finish(s, part, plan)


def stored_rows(results: Results, stage: str, table: Table) -> Iterator[tuple[Any, ...]]:
    """All rows of a table that a stage has written."""
    (condition,) = [where for name, where in ROWS[stage] if name == table]
    return results.query(f"SELECT * FROM {table} WHERE {condition}")


def _begin(s: Session, part: Part, plan: Sequence[LatentId]) -> None:
    """Take up what the run has of the shard's own latents, unless the shard is ahead of it."""
    run = s.config.run.path
    merged = run / directory.RESULTS
    if part.state(run) in ("absent", "merged") and merged.is_file():
        with Results.frozen(merged) as results:
            for table, where in ROWS[part.stage]:
                s.results.put_rows(table, _rows_of(results, table, where, part.own(plan)))
    part.begin(run)


def _rows_of(
    results: Results, table: Table, where: str, latents: Iterable[LatentId]
) -> Iterator[tuple[Any, ...]]:
    for coder, numbers in indices(latents).items():
        for block in blocks(numbers.tolist()):
            query = (
                f"SELECT * FROM {table} WHERE coder = ?"
                f" AND latent IN (SELECT value FROM json_each(?)) AND {where}"
            )
            yield from results.query(query, (coder, json.dumps(block)))


def _finish(s: Session, part: Part, plan: Sequence[LatentId]) -> None:
    counts = {
        table: next(s.results.query(f"SELECT count(*) FROM {table} WHERE {where}"))[0]
        for table, where in ROWS[part.stage]
    }
    part.finish(s.config.run.path, _finished(s, part, plan) | {"rows": counts})


def _finished(s: Session, part: Part, plan: Sequence[LatentId]) -> Finished:
    """What tells one plan, and one state of it, from another."""
    digest = hashlib.blake2b(digest_size=16)
    for latent in plan:
        digest.update(f"{latent}\n".encode())
    table = ROWS[part.stage][0][0]
    failed = next(s.results.query(f"SELECT count(*) FROM {table} WHERE status = 'failed'"))[0]
    return {"plan": digest.hexdigest(), "latents": len(plan), "failed": failed}
