"""The command that makes a run of its shards."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from autointerp.cli.common import DONE, existing, json_option, place, print_json


def add_command(commands: Any) -> None:
    """The words of ``merge``."""
    parser = commands.add_parser("merge", help="make one run of its shards")
    parser.add_argument("directory", metavar="RUN")
    json_option(parser, merge)


def merge(arguments: argparse.Namespace) -> int:
    from autointerp.examples.store import MARKER
    from autointerp.latents import AutointerpError
    from autointerp.pipeline import merging
    from autointerp.pipeline.session import session
    from autointerp.report import live

    run = existing(arguments.directory)
    config = merging.shards_config(run, place(run))
    with live.observer(run) as observe, session(config, observe, asks=False) as s:
        told = merging.merge(s)
        if (s.examples / MARKER).exists():
            s.enter("done" if s.results.has_rows() else "collected")
        s.log.event("merged", **told)
        s.summary()  # the status then says it
    if arguments.json:
        print_json(told)
    else:
        _print(told)
    if missing := merging.missing_shards(told, run):
        raise AutointerpError(missing)
    return DONE


def print_merge(run: Path) -> None:
    """How to go on when a shard is finished."""
    command = shlex.join(["autointerp", "merge", str(run)])
    print(f"when all shards are finished: {command}")


def _print(told: dict[str, Any]) -> None:
    words = {"merged": "merged", "already": "merged before"}
    for what, verb in words.items():
        for stage, shards in told[what].items():
            print(f"{stage}: {verb}: {', '.join(shards)}")
    done = {*told["merged"], *told["already"]}
    following = {"collect": "explain", "explain": "score"}
    later = [after for stage, after in following.items() if stage in done and after not in done]
    if later and not told["missing"]:
        where = shlex.join(["--run", str(told["run"])])
        print(f"go on: autointerp {later[-1]} --shard I/N {where}, or autointerp run {where}")
