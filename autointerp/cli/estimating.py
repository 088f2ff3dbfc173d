"""The command that tells what a run will cost."""

from __future__ import annotations

import argparse

from autointerp.cli.common import DONE, print_json, read_config


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spend",
        type=_count,
        default=0,
        metavar="N",
        help="ask about N latents for real; the run finds the replies in the journal",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of latents")
    return int(text)


def estimate(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline.estimate import estimate as estimated
    from autointerp.report import live
    from autointerp.report.estimate import print_estimate

    config = read_config(arguments)
    with live.observer() as observe:
        document = estimated(config, observe, spend=arguments.spend, force=arguments.force)
    if arguments.json:
        print_json(document)
    else:
        print_estimate(Console(), document)
    return DONE
