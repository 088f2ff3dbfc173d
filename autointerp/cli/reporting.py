"""The command that writes a run's report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from autointerp.cli.common import DONE, existing, json_option, print_json

FILE = "report.html"  # in the run directory


def add_command(commands: Any) -> None:
    """The words of ``report``."""
    parser = commands.add_parser("report", help="one HTML file of a run, to open in a browser")
    parser.add_argument("directory", metavar="RUN")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: RUN/{FILE}")
    json_option(parser, report)


def report(arguments: argparse.Namespace) -> int:
    from autointerp.latents import LatentId
    from autointerp.pipeline import directory
    from autointerp.pipeline.published import examples_of
    from autointerp.pipeline.results import Results
    from autointerp.pipeline.shown import latent_document
    from autointerp.pipeline.status import write_atomically
    from autointerp.report.static.page import Document, Run, report

    path = existing(arguments.directory)
    output = _output(arguments.output or path / FILE)
    with Results.read(path / directory.RESULTS) as results:
        examples = examples_of(path)

        def describe(latent: LatentId) -> Document:
            return latent_document(results, examples, latent)

        made = report(Run(path, results, examples, describe))
    write_atomically(output, made.html)
    if arguments.json:
        print_json({**made.figures, "report": str(output)})
    else:
        print(f"wrote {output}; open it in a browser")
    return DONE


def _output(path: Path) -> Path:
    """Raises AutointerpError if no file can be there."""
    from autointerp.latents import AutointerpError

    if path.is_dir():
        raise AutointerpError(f"{path} is a folder; --output names a file, as in {path / FILE}")
    if not path.parent.is_dir():
        raise AutointerpError(f"there is no folder {path.parent}; make it first")
    return path
