"""The words of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from autointerp.cli import (
    comparing,
    estimating,
    looking,
    merging,
    publishing,
    reporting,
    stages,
    viewing,
)
from autointerp.cli.common import json_option

EXIT_CODES = (
    "exit codes: 0 done; 1 finished, with failures or stopped early (listed); 2 bad input;"
    " 130 interrupted (the same command goes on)"
)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may stand on both sides of options, of which argparse reads only the first."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = getattr(arguments, "overrides", None)
    if overrides is None or any(word.startswith("-") for word in rest):
        parser.parse_args(argv)  # tells what is wrong
    else:
        overrides += rest
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autointerp", description="Explain and score latents.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    run = _add(commands, "run", stages.run, "collect, explain and score; all that is not done yet")
    collect = _add(
        commands, "collect", stages.collect, "read the corpus, and keep examples of every latent"
    )
    explain = _add(commands, "explain", stages.explain, "explain the latents")
    score = _add(commands, "score", stages.score, "score explanations")
    stages.add_options(retrying=[run, explain, score], sharded=[collect, explain, score])
    score.add_argument("--explanations", type=Path, metavar="FILE", help="a .csv or .jsonl file")
    about = "what a run will cost, before anything is spent"
    estimating.add_options(_add(commands, "estimate", estimating.estimate, about))
    status = commands.add_parser("status", help="how far a run is")
    status.add_argument("directory", nargs="?", default="demo", metavar="RUN")
    json_option(status, looking.status)
    show = commands.add_parser("show", help="all that a run knows of one latent")
    show.add_argument("directory", metavar="RUN")
    show.add_argument("latent", metavar="LATENT")
    json_option(show, looking.show)
    prompts = commands.add_parser("prompts", help="the prompts of a latent, asking no model")
    prompts.add_argument("directory", metavar="RUN")
    prompts.add_argument("latent", metavar="LATENT")
    prompts.add_argument("overrides", nargs="*", metavar="key.sub=value")
    json_option(prompts, looking.prompts)
    compare = commands.add_parser("compare", help="two runs, paired by latent and by item")
    compare.add_argument("a", metavar="RUN_A")
    compare.add_argument("b", metavar="RUN_B")
    compare.add_argument("--scorer", metavar="NAME", help="default: all that both have")
    json_option(compare, comparing.compare)
    comparing.add_similarity(commands)
    comparing.add_control(commands)
    probe = _add(commands, "probe", looking.probe, "colour the tokens of texts by activation")
    probe.add_argument("--latent", action="append", required=True, metavar="CODER/INDEX")
    probe.add_argument("--text", action="append", default=[])
    probe.add_argument("--texts", type=Path, metavar="FILE", help="one JSON string a line")
    merging.add_command(commands)
    publishing.add_commands(commands)
    reporting.add_command(commands)
    viewing.add_command(commands)
    return parser


def _add(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """A command that takes a configuration."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=EXIT_CODES
    )
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: the embedded demo")
    parser.add_argument("--run", type=Path, metavar="DIR", help="the run directory")
    if name != "probe":
        parser.add_argument(
            "--force", action="store_true", help="collect with a coder that explains nothing too"
        )
    json_option(parser, command)
    return parser
