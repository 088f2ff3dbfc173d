"""The commands that publish a run, and that make one of what was published."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autointerp.cli.common import DONE, existing, json_option, print_json

if TYPE_CHECKING:
    from autointerp.export.push import Plan
    from autointerp.export.remote import Local

LISTED = 40  # files of a plan
Document = dict[str, Any]


def add_commands(commands: Any) -> None:
    """The words of ``export``, ``import`` and ``push``."""
    export = commands.add_parser("export", help="a run's files for others, in a format of theirs")
    export.add_argument("directory", metavar="RUN")
    export.add_argument("--format", choices=list(EXPORTS), default="hub", help="default: hub")
    export.add_argument("--output", type=Path, metavar="DIR", help="default: RUN/export/FORMAT")
    there = export.add_argument_group("of --format neuronpedia")
    there.add_argument("--model-id", metavar="ID", help="default: the model's name, as gpt2-small")
    there.add_argument("--source-set", metavar="NAME", help="default: the run's name")
    there.add_argument("--creator", metavar="ID", help="who owns it; default: the bot's user id")
    _publishing_options(export, run_export)
    taking = commands.add_parser("import", help="make a run of what was published")
    taking.add_argument("source", type=Path, metavar="DIR")
    taking.add_argument("--format", choices=list(IMPORTS), default="hub", help="default: hub")
    taking.add_argument("--run", type=Path, required=True, metavar="NEW", help="its directory")
    theirs = taking.add_argument_group("of --format delphi")
    theirs.add_argument("--explanations", type=Path, metavar="DIR", help="default: beside latents")
    theirs.add_argument(
        "--scores", type=Path, nargs="+", metavar="DIR", help="as scores/fuzz; default: all there"
    )
    json_option(taking, run_import)
    push = commands.add_parser(
        "push",
        help="upload a run to the Hugging Face hub as a data set",
        description="Shows what would be uploaded, and asks. Run again, it goes on where it was.",
    )
    push.add_argument("directory", metavar="RUN")
    push.add_argument("--repo", required=True, metavar="NAME", help="as in you/my-explanations")
    push.add_argument("--public", action="store_true", help="default: private")
    push.add_argument("--yes", action="store_true", help="do not ask")
    _publishing_options(push, run_push)


def _publishing_options(
    parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]
) -> None:
    parser.add_argument("--no-examples", action="store_true", help="leave the corpus's texts out")
    parser.add_argument("--license", metavar="ID", help="the corpus's; default: corpus.license")
    json_option(parser, command)


def run_export(arguments: argparse.Namespace) -> int:
    _refuse_others(arguments)
    run = existing(arguments.directory)
    output = arguments.output or run / "export" / arguments.format
    document = EXPORTS[arguments.format](arguments, run, output)
    size = f", {_size(document['bytes'])}" if "bytes" in document else ""
    lines = [f"{output}: {document['files']} files{size}"]
    if arguments.format == "hub":
        push = shlex.join(["autointerp", "push", str(run), "--repo", "NAME"])
        lines.append(f"upload them: {push}")
    return _tell(arguments, document, "\n".join(lines))


def run_import(arguments: argparse.Namespace) -> int:
    _refuse_others(arguments)
    document = IMPORTS[arguments.format](arguments)
    lines = [f"{arguments.run}: {document['latents']} latents"]
    if not document["examples"]:
        lines.append("it has no examples: they were not there")
    if left := document.get("left_out"):
        lines.append(f"left out: scores of {', '.join(left)}")
    return _tell(arguments, document, "\n".join(lines))


_OF_ONE_FORMAT = {
    "license": "hub",
    "model_id": "neuronpedia",
    "source_set": "neuronpedia",
    "creator": "neuronpedia",
    "explanations": "delphi",
    "scores": "delphi",
}


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Refuse options that the format has no use for."""
    from autointerp.latents import AutointerpError

    for name, wanted in _OF_ONE_FORMAT.items():
        if getattr(arguments, name, None) is not None and arguments.format != wanted:
            raise AutointerpError(f"--{name.replace('_', '-')} is for --format {wanted}")


def _tell(arguments: argparse.Namespace, document: Document, line: str) -> int:
    if arguments.json:
        print_json(document)
    else:
        print(line)
    return DONE


def _export_hub(arguments: argparse.Namespace, run: Path, output: Path) -> Document:
    from autointerp.export.hub import export_run
    from autointerp.report import live

    with live.observer() as observe:
        return export_run(
            run,
            output,
            observe,
            examples=not arguments.no_examples,
            license_id=arguments.license,
        )


def _import_hub(arguments: argparse.Namespace) -> Document:
    from autointerp.export.taking import take_run
    from autointerp.report import live

    with live.observer() as observe:
        return take_run(arguments.source, arguments.run, observe)


def _export_neuronpedia(arguments: argparse.Namespace, run: Path, output: Path) -> Document:
    from autointerp.export.neuronpedia import BOT, Names, export_neuronpedia
    from autointerp.report import live

    names = Names(arguments.model_id, arguments.source_set, arguments.creator or BOT)
    with live.observer() as observe:
        return export_neuronpedia(
            run, output, observe, names=names, examples=not arguments.no_examples
        )


def _import_delphi(arguments: argparse.Namespace) -> Document:
    from autointerp.export.delphi import take_cache
    from autointerp.report import live

    with live.observer() as observe:
        return take_cache(
            arguments.source,
            arguments.run,
            observe,
            explanations=arguments.explanations,
            scores=arguments.scores,
        )


#: One function a format: of the arguments, the run and the folder to write, to a document with
#: ``files``; and of the arguments to a document with ``latents``.
EXPORTS: dict[str, Callable[[argparse.Namespace, Path, Path], Document]] = {
    "hub": _export_hub,
    "neuronpedia": _export_neuronpedia,
}
IMPORTS: dict[str, Callable[[argparse.Namespace], Document]] = {
    "hub": _import_hub,
    "delphi": _import_delphi,
}


def run_push(arguments: argparse.Namespace) -> int:
    """Show what would be uploaded, ask, and upload it."""
    from autointerp.export.push import plan, push
    from autointerp.export.remote import PassingTrouble, Remote
    from autointerp.latents import AutointerpError
    from autointerp.report import live

    run = existing(arguments.directory)
    _check_before_push(arguments, run)
    folder = run / "export" / "hub"
    try:
        remote = Remote(arguments.repo)
        _export_hub(arguments, run, folder)
        planned = plan(folder, remote, public=arguments.public)
    except PassingTrouble as error:
        raise AutointerpError(f"{error}; try again") from error
    print_plan(planned)
    if planned.changes and not arguments.yes and not _agreed():
        return _tell(arguments, {"repo": planned.remote.name, "sent": 0}, "nothing was uploaded")
    with live.observer() as observe:
        document = push(planned, observe)
    sent = f"{document['sent']} of {document['files']} files sent"
    return _tell(arguments, document, f"{document['url']}: {sent}, all {document['files']} there")


def _check_before_push(arguments: argparse.Namespace, run: Path) -> None:
    """Refuse, before any long work, what nobody could agree to."""
    from autointerp.export.hub import exported_config, licensed
    from autointerp.latents import AutointerpError

    config = licensed(exported_config(run), arguments.license)
    if config.corpus.license is None:
        raise AutointerpError(
            f"the licence of {config.corpus.source} is not known; give --license ID (as in"
            " cc-by-4.0), or corpus.license in the configuration"
        )
    if not arguments.yes and not sys.stdin.isatty():
        raise AutointerpError("nobody can be asked here; look at `export` first, then give --yes")


def print_plan(planned: Plan) -> None:
    """What a push would do, on standard error."""
    texts = "go out, under that licence" if planned.examples else "stay here"
    seen = "public" if planned.public else "private"
    state = "there already" if planned.exists else "new"
    lines = [
        f"repository  {planned.remote.name} ({seen}, {state}), as {planned.remote.user}",
        f"licence     {planned.license}; example windows of the corpus {texts}",
        f"files       {_sizes(planned.files)}; to upload: {_sizes(planned.sent)}",
        *(f"  {file.name}  {_size(file.bytes)}" for file in planned.sent[:LISTED]),
    ]
    if len(planned.sent) > LISTED:
        lines.append(f"  … and {len(planned.sent) - LISTED} more")
    lines += [f"  {name}  will be deleted: the run has it no more" for name in planned.deleted]
    print(*lines, sep="\n", file=sys.stderr)


def _sizes(files: Sequence[Local]) -> str:
    return f"{len(files)} ({_size(sum(file.bytes for file in files))})"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def _agreed() -> bool:
    print("upload? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
