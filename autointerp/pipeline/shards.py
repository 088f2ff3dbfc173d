"""The shards of a run: processes, perhaps on several machines, that each do a part of a stage.

A shard has a directory of its own below the run's, which it alone writes: what shards share they
only read. What it has finished stands in its record, and what was taken over into the run in the
run's; so one looks at files alone, wherever a shard was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from autointerp.config import RunConfig
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.llm.journal import default_path
from autointerp.pipeline.network import is_on_network
from autointerp.pipeline.shard_status import MERGED, RECORD, SHARDS, read_record
from autointerp.pipeline.status import write_atomically

Stage = Literal["collect", "explain", "score"]
STAGES: tuple[Stage, ...] = get_args(Stage)
PREPARED = "prepared"  # a shard's folder of negatives

Finished = dict[str, Any]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One shard of one stage."""

    stage: Stage
    shard: Shard

    def __str__(self) -> str:
        return f"{self.stage} --shard {self.shard}"

    def path(self, run: Path) -> Path:
        """The directory that it writes."""
        return run / SHARDS / self.shard.folder

    def store(self, run: Path) -> Path:
        """The directory that has its examples, or that gets them."""
        return (self.path(run) if self.stage == "collect" else run) / "examples"

    def own(self, latents: Sequence[Item]) -> Sequence[Item]:
        """Of a plan the part that is its own."""
        low, high = self.shard.bounds(len(latents))
        return latents[low:high]

    def config(self, config: RunConfig) -> RunConfig:
        """The configuration with an equal share of the budget, so that shards, which do not hear of
        one another, keep to it together; and with a journal of the shard's own where the usual one
        is on a network, since SQLite's files bear the processes of one machine alone."""
        of, budget = self.shard.of, config.budget
        dollars = None if budget.dollars is None else budget.dollars / of
        tokens = None if budget.prompt_tokens is None else budget.prompt_tokens // of
        share = budget.model_copy(update={"dollars": dollars, "prompt_tokens": tokens})
        journal = config.journal
        if journal is None and is_on_network(default_path()):
            journal = self.path(config.run.path) / default_path().name
        return config.model_copy(update={"budget": share, "journal": journal})

    def begin(self, run: Path) -> None:
        """Note that it is at work, and that nothing is finished."""
        self._note(run, None)

    def finish(self, run: Path, finished: Finished) -> None:
        """Note what it has finished; called when all of that is on disk."""
        self._note(run, finished)

    def _note(self, run: Path, finished: Finished | None) -> None:
        path = self.path(run)
        record = {**read_record(path / RECORD), self.stage: finished}
        write_atomically(path / RECORD, json.dumps(record, indent=1) + "\n")

    def state(self, run: Path) -> Literal["absent", "begun", "finished", "merged"]:
        """How far it is. One that does more after it was merged is no longer merged."""
        record = read_record(self.path(run) / RECORD)
        if self.stage not in record:
            return "absent"
        if record[self.stage] is None:
            return "begun"
        merged = read_record(run / MERGED).get(self.stage, {})
        return "merged" if merged.get(self.shard.folder) == record[self.stage] else "finished"

    def finished(self, run: Path) -> Finished:
        """What it said that it has finished."""
        found: Finished = read_record(self.path(run) / RECORD)[self.stage]
        return found

    def note_merged(self, run: Path) -> None:
        """Note that what it has finished is now the run's."""
        merged = read_record(run / MERGED)
        merged[self.stage] = merged.get(self.stage, {}) | {self.shard.folder: self.finished(run)}
        write_atomically(run / MERGED, json.dumps(merged, indent=1) + "\n")


def parts_of(run: Path, stage: Stage) -> list[list[Part]]:
    """The shards of a stage, every division that one of them has begun, with all of its shards."""
    divisions = sorted({shard.of for shard in shards_of(run)})
    groups = [[Part(stage, shard) for shard in Shard(of, 1).all] for of in divisions]
    return [g for g in groups if any(part.state(run) != "absent" for part in g)]


def shards_of(run: Path) -> list[Shard]:
    """The shards that have a directory, by division and number."""
    found = []
    for path in (run / SHARDS).glob("*-of-*"):
        try:
            found.append(Shard.parse(path.name))
        except AutointerpError:  # a folder of somebody else's
            continue
    return sorted(found)


def unmerged(run: Path, stages: Sequence[Stage] = STAGES) -> list[Part]:
    """The shards of these stages that are not merged, those that were never begun included."""
    parts = (part for stage in stages for group in parts_of(run, stage) for part in group)
    return [part for part in parts if part.state(run) != "merged"]


def check_merged(run: Path, stages: Sequence[Stage], wanted: str) -> None:
    """Refuse to build on a stage whose shards are not merged.

    Raises:
        AutointerpError: naming the shards and how to go on.
    """
    if left := unmerged(run, stages):
        raise AutointerpError(
            f"{wanted}: not merged yet: {named(left)}; `autointerp merge {run}` does that when all"
            f" are finished (or remove {run / SHARDS} to do without them)"
        )


def named(parts: Sequence[Part], most: int = 4) -> str:
    """The shards of the first stage in words: ``explain shards 2/4 and 3/4``; of many a few."""
    stages = list(dict.fromkeys(part.stage for part in parts))
    numbers = [str(part.shard) for part in parts if part.stage == stages[0]]
    shown = numbers[:most] + ([f"{len(numbers) - most} more"] if len(numbers) > most else [])
    words = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
    return f"{stages[0]} shard{'s' * (len(numbers) > 1)} {words}"
