"""The commands that set a run against another: one that there is, or a control made for it."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from autointerp.cli.common import DONE, existing, json_option, place, print_json


def add_similarity(commands: Any) -> None:
    """The words of ``similarity``."""
    parser = commands.add_parser(
        "similarity", help="which latents of two runs have explanations that mean the same"
    )
    parser.add_argument("a", metavar="RUN_A")
    parser.add_argument("b", metavar="RUN_B")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="pairs shown; default: 10")
    parser.add_argument(
        "--model",
        metavar="FOLDER",
        help="a sentence-transformers model; default: RUN_A's embedder.model",
    )
    json_option(parser, similarity)


def similarity(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline.similarity import compare_meanings, embedder_of
    from autointerp.report import live
    from autointerp.report.similarity import print_similarity

    a, b = existing(arguments.a), existing(arguments.b)
    name, load = embedder_of(a, arguments.model)
    with live.observer() as observe:
        document = compare_meanings(a, b, load, observe, top=arguments.top)
    document = {**document, "embedder": name}
    if arguments.json:
        print_json(document)
    else:
        print_similarity(Console(), document)
    return DONE


def compare(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline.compare import compare as set_against
    from autointerp.report.comparison import print_comparison

    a, b = existing(arguments.a), existing(arguments.b)
    document = set_against(a, b, scorer=arguments.scorer)
    if arguments.json:
        print_json(document)
    else:
        print_comparison(Console(), document)
    return DONE


def add_control(commands: Any) -> None:
    """The words of ``control``."""
    parser = commands.add_parser(
        "control", help="run the same on random coders or a random model, or some of it once more"
    )
    parser.add_argument("directory", metavar="RUN")
    kinds = ["random_coder", "random_subject", "rerun"]
    parser.add_argument("--kind", required=True, choices=kinds)
    parser.add_argument("--latents", type=int, metavar="N", help="of a rerun; default: 30")
    json_option(parser, control)


def control(arguments: argparse.Namespace) -> int:
    """Derive the control's configuration, unless that was done, and run it as ``run`` would."""
    from autointerp.cli import stages
    from autointerp.config import load_config
    from autointerp.pipeline import directory, random_coders, random_subject, rerun
    from autointerp.pipeline.status import write_atomically

    run = existing(arguments.directory)
    config = load_config(run / directory.CONFIG, place(run))
    path = random_coders.control_path(config, arguments.kind)
    kinds = {module.KIND: module.derive for module in (random_coders, random_subject)}
    kinds[rerun.KIND] = partial(rerun.derive, latents=_latents(arguments))
    again = arguments.kind == rerun.KIND  # of perhaps more latents
    if again or not (path / directory.CONFIG).exists():
        derived = kinds[arguments.kind](config)
        write_atomically(path / directory.CONFIG, derived.to_yaml())
    arguments.config, arguments.run, arguments.overrides = None, path, []
    arguments.force = True  # a random coder explains nothing, and is meant to
    code = stages.run(arguments, partial(rerun.note_agreement, run=run) if again else None)
    if not arguments.json:
        print(f"set it against the run: autointerp compare {run} {path}")
    return code


def _latents(arguments: argparse.Namespace) -> int:
    """How many latents a rerun is of. Raises AutointerpError where another control is asked for."""
    from autointerp.latents import AutointerpError
    from autointerp.pipeline.rerun import KIND, LATENTS

    if arguments.latents is None:
        return LATENTS
    if arguments.kind != KIND:
        raise AutointerpError(f"--latents goes with --kind {KIND}; other controls are of them all")
    count: int = arguments.latents
    return count
