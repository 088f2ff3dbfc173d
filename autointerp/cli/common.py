"""What commands share: exit codes, one line for bad input, one JSON document, the configuration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.pipeline.shards import Part, Stage

DONE, FAILURES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def json_option(
    parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]
) -> None:
    """The words of a command that can print its document instead of telling people."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=command)


def refuse(message: str) -> int:
    """Tell in one line what is wrong with the input; returns the exit code."""
    print(f"autointerp: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def no_run(name: str) -> str:
    return f"no run at {name}" + ("" if Path(name).is_absolute() else f" or runs/{name}")


def existing(run: str) -> Path:
    """A run by its path or its name. Raises AutointerpError if there is none."""
    from autointerp.latents import AutointerpError
    from autointerp.pipeline.directory import CONFIG, RESULTS
    from autointerp.pipeline.shard_status import SHARDS
    from autointerp.pipeline.status import find_run

    path = find_run(run)
    if path is None or not any((path / name).exists() for name in (CONFIG, RESULTS, SHARDS)):
        raise AutointerpError(no_run(run))
    return path


def print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False))


def read_config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration asked for; a run that exists keeps its own unless a file is given."""
    from autointerp.config import load_config
    from autointerp.pipeline.directory import CONFIG

    path, overrides = arguments.config, list(arguments.overrides)
    if arguments.run is not None:
        run = Path(arguments.run)
        part = part_of(arguments, "collect")  # in the same place as those of other stages
        kept = [run / CONFIG, *([part.path(run) / CONFIG] if part else [])]
        path = path or next((file for file in kept if file.exists()), None)
        overrides += place(run)
    return load_config(path, overrides)


def part_of(arguments: argparse.Namespace, stage: Stage) -> Part | None:
    """The shard of a stage that is asked for, if one is. Raises AutointerpError."""
    from autointerp.latents.shards import Shard
    from autointerp.pipeline.shards import Part

    text = getattr(arguments, "shard", None)
    return None if text is None else Part(stage, Shard.parse(text))


def place(run: Path) -> list[str]:
    """The overrides that say where a run lies."""
    return [f"run.directory={json.dumps(str(run.parent))}", f"run.name={json.dumps(run.name)}"]
