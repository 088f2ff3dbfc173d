"""Makes a run of its shards: their stores into one, their rows into the run's results.

Every step is whole or not there: a store is renamed into its place, a shard's rows are one
transaction, and what was merged is noted afterwards. So a merge that was killed is done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig, load_config
from autointerp.examples import harvest
from autointerp.examples.contrast import take_over
from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.pipeline import directory
from autointerp.pipeline.figures import note_effects
from autointerp.pipeline.results import Results
from autointerp.pipeline.session import Session
from autointerp.pipeline.sharding import ROWS, stored_rows
from autointerp.pipeline.shards import PREPARED, STAGES, Part, Stage, parts_of, shards_of
from autointerp.pipeline.standings import STOPPED

Document = dict[str, Any]
UNFINISHED = "examples.unfinished"


def shards_config(run: Path, place: Sequence[str]) -> RunConfig:
    """The configuration of a run that is to be merged: that of its shards which are furthest on.

    ``place`` are the overrides that say where the run lies.

    Raises:
        AutointerpError: if the run has no shards.
    """
    if not shards_of(run):
        raise AutointerpError(
            f"{run} has no shards to merge; `autointerp collect --shard 1/4` begins one of four"
        )
    parts = [p for stage in STAGES for group in parts_of(run, stage) for p in group]
    unmerged = [part for part in parts if part.state(run) == "finished"]
    files = [part.path(run) / directory.CONFIG for part in unmerged[::-1]]
    known = next((file for file in [*files, run / directory.CONFIG] if file.is_file()), None)
    if known is None:
        first = next(part for part in parts if part.state(run) != "absent")
        known = first.path(run) / directory.CONFIG
    return load_config(known, place)


def merge(s: Session) -> Document:
    """Merge every stage all of whose shards are finished; those that were merged cost nothing.

    Returns ``merged``, ``already`` and ``missing``: the shards by stage.

    Raises:
        AutointerpError: if shards do not belong together, or one is not what it said.
    """
    run = s.path
    told: Document = {"run": str(run), "merged": {}, "already": {}, "missing": {}}
    for stage in STAGES:
        s.enter(f"merge {stage}")
        for parts in parts_of(run, stage):
            states = {part: part.state(run) for part in parts}
            missing = [p for p, state in states.items() if state in ("absent", "begun")]
            fresh = [p for p, state in states.items() if state == "finished"]
            if fresh and not missing:
                _merge_stage(s, stage, parts, fresh)
                _tell(told, "merged", stage, fresh)
            _tell(told, "already", stage, [p for p in parts if states[p] == "merged"])
            _tell(told, "missing", stage, missing)
    return told


def missing_shards(told: Document, run: Path) -> str | None:
    """One line that names what is missing and how to get it; None if nothing is."""
    for stage, shards in told["missing"].items():
        begun = [n for n in shards if Part(stage, Shard.parse(n)).state(run) == "begun"]
        absent = [n for n in shards if n not in begun]
        words = [f"not finished: {', '.join(begun)}"] if begun else []
        words += [f"not begun: {', '.join(absent)}"] if absent else []
        command = f"autointerp {stage} --shard {shards[0]} --run {run}"
        return f"{run}: {stage} shards {'; '.join(words)}; wait for them, or run `{command}`"
    return None


def _tell(told: Document, what: str, stage: Stage, parts: Sequence[Part]) -> None:
    if parts:
        told[what][stage] = told[what].get(stage, []) + [str(part.shard) for part in parts]


def _merge_stage(s: Session, stage: Stage, parts: Sequence[Part], fresh: Sequence[Part]) -> None:
    if stage == "collect":
        _merge_stores(s, parts)
        return
    _check_together(s.path, parts)
    for number, part in enumerate(fresh):
        with directory.writing(part.path(s.path)):
            _merge_rows(s, part)
        part.note_merged(s.path)
        s.observe(f"merge {stage}", number + 1, len(fresh))
    s.planned = parts[0].finished(s.path)["latents"]
    if stage == "score":
        note_effects(s.results, s.explainer, s.config.run.seed)


def _merge_stores(s: Session, parts: Sequence[Part]) -> None:
    run = s.path
    if not (s.examples / MARKER).exists():
        if s.examples.exists():
            raise AutointerpError(
                f"{s.examples} holds examples that are not all collected yet; finish that, or"
                " remove the folder to have those of the shards"
            )
        folders = [part.store(run) for part in parts]
        directory.check_space(run, sum(map(directory.size, folders)))
        unfinished = run / UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        harvest.merge([ExampleStore.open(folder) for folder in folders], unfinished)
        unfinished.rename(s.examples)
    directory.record(run, corpus=ExampleStore.open(s.examples).fingerprint)
    for part in parts:
        part.note_merged(run)


def _check_together(run: Path, parts: Sequence[Part]) -> None:
    """Refuse shards of different plans."""
    plans = {part: part.finished(run)["plan"] for part in parts}
    for part, plan in plans.items():
        if plan != plans[parts[0]]:
            raise AutointerpError(
                f"{run}: {parts[0]} and {part} were of different latents; run `autointerp {part}`"
                " again with those of the other"
            )


def _merge_rows(s: Session, part: Part) -> None:
    path = part.path(s.path)
    with Results.read(path / directory.RESULTS) as results:
        _check_settings(s, part, results)
        expected = part.finished(s.path)["rows"]
        for table, where in ROWS[part.stage]:
            (count,) = next(results.query(f"SELECT count(*) FROM {table} WHERE {where}"))
            if count != expected[table]:
                raise AutointerpError(
                    f"{results.path} has {count} {table} of {part}, which finished with"
                    f" {expected[table]}: a part of it is missing; run `autointerp {part}` again"
                )
            s.results.put_rows(table, stored_rows(results, part.stage, table))
        stopped = results.noted(STOPPED)
    if part.stage == "explain" and stopped:
        s.results.note(STOPPED, f"shard {part.shard}: {stopped}")
    take_over(path / PREPARED, s.examples)


def _check_settings(s: Session, part: Part, results: Results) -> None:
    """Refuse a shard of other settings than the run's."""
    held = s.results.settings()
    for name, value in results.settings().items():
        if name in held and held[name] != value:
            raise AutointerpError(
                f"{s.path}: {part} was made with {name} = {value!r}, the others with"
                f" {held[name]!r}; remove {part.path(s.path)} and run it again"
            )
    s.results.hold_settings(results.settings())
