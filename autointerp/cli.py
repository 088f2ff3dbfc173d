"""The commands: parse, call, print. Imports of what does the work are inside the commands."""

from __future__ import annotations

import argparse
import errno
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.pipeline.run import Session

DONE, FAILURES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_FREE, _ELSEWHERE = "free some space and run again to continue", "set run.directory elsewhere"
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _FREE),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _ELSEWHERE),
}
_SQLITE_ADVICE = {
    "disk is full": _FREE,
    "disk I/O error": _FREE,
    "readonly database": _ELSEWHERE,
    "unable to open": _ELSEWHERE,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 with failures, 2 bad input, 130."""
    arguments = _parse(argv)
    status: bool = arguments.command is _status
    if status:  # before any import that takes time
        return _status(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    return _guarded(arguments)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may stand on both sides of options, of which argparse reads only the first."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    overrides = getattr(arguments, "overrides", None)
    if overrides is None or any(word.startswith("-") for word in rest):
        parser.parse_args(argv)  # tells what is wrong
    else:
        overrides += rest
    return arguments


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do as on Ctrl-C, on which an event loop cancels its tasks before it ends."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(number, frame)


def _guarded(arguments: argparse.Namespace) -> int:
    import sqlite3

    from autointerp.latents import AutointerpError

    try:
        code: int = arguments.command(arguments)
        return code
    except AutointerpError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        where = f" {error.filename}" if error.filename else ""
        return _refuse(f"cannot write{where}: {error.strerror}; {_ADVICE[error.errno]}")
    except sqlite3.OperationalError as error:
        advice = next((a for phrase, a in _SQLITE_ADVICE.items() if phrase in str(error)), None)
        if advice is None:
            raise
        return _refuse(f"cannot write results: {error}; {advice}")


def _refuse(message: str) -> int:
    print(f"autointerp: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="autointerp", description="Explain and score latents.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(commands, "run", _run, "collect, explain and score; all that is not done yet")
    _add(commands, "collect", _collect, "read the corpus, and keep examples of every latent")
    _add(commands, "explain", _explain, "explain the latents")
    score = _add(commands, "score", _score, "score explanations")
    score.add_argument("--explanations", type=Path, metavar="FILE", help="a .csv or .jsonl file")
    status = commands.add_parser("status", help="how far a run is")
    status.add_argument("directory", nargs="?", default="demo", metavar="RUN")
    _json_option(status, _status)
    show = commands.add_parser("show", help="all that a run knows of one latent")
    show.add_argument("directory", metavar="RUN")
    show.add_argument("latent", metavar="LATENT")
    _json_option(show, _show)
    prompts = commands.add_parser("prompts", help="the prompts of a latent, asking no model")
    prompts.add_argument("directory", metavar="RUN")
    prompts.add_argument("latent", metavar="LATENT")
    prompts.add_argument("overrides", nargs="*", metavar="key.sub=value")
    _json_option(prompts, _prompts)
    probe = _add(commands, "probe", _probe, "colour the tokens of texts by activation")
    probe.add_argument("--latent", action="append", required=True, metavar="CODER/INDEX")
    probe.add_argument("--text", action="append", default=[])
    probe.add_argument("--texts", type=Path, metavar="FILE", help="one JSON string a line")
    return parser


def _add(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """A command that takes a configuration."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value")
    parser.add_argument("--config", type=Path, metavar="FILE", help="default: the embedded demo")
    parser.add_argument("--run", type=Path, metavar="DIR", help="the run directory")
    if name != "probe":
        parser.add_argument(
            "--force", action="store_true", help="collect with a coder that explains nothing too"
        )
    _json_option(parser, command)
    return parser


def _json_option(
    parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]
) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=command)


def _config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration asked for; a run that exists keeps its own unless a file is given."""
    from autointerp.config import load_config
    from autointerp.pipeline.directory import CONFIG

    path, overrides = arguments.config, list(arguments.overrides)
    if arguments.run is not None:
        run = Path(arguments.run)
        stored = run / CONFIG
        path = path or (stored if stored.exists() else None)
        overrides += [f"run.directory={json.dumps(str(run.parent))}"]
        overrides += [f"run.name={json.dumps(run.name)}"]
    return load_config(path, overrides)


def _run(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run

    def stages(s: Session) -> None:
        store = run.collect(s)
        latents = run.chosen(s, store)
        run.explain(s, store, latents)
        run.score(s, store, latents)

    return _stages(arguments, stages)


def _explain(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run

    def stages(s: Session) -> None:
        store = run.collect(s)
        run.explain(s, store, run.chosen(s, store))

    return _stages(arguments, stages)


def _score(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run

    if arguments.explanations is not None:
        return _score_file(arguments)

    def stages(s: Session) -> None:
        store = run.collect(s)
        run.score(s, store, run.chosen(s, store))

    return _stages(arguments, stages)


def _score_file(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run
    from autointerp.pipeline.imported import check_readable, read_explanations

    def stages(s: Session) -> None:
        widths = {name: coder.d_sae for name, coder in s.coders.items()}
        explanations = read_explanations(arguments.explanations, widths)
        check_readable(s.config, arguments.explanations, explanations)
        store = run.collect(s)
        run.score(s, store, run.take_in(s, explanations))

    return _stages(arguments, stages, explainer=run.IMPORTED)


def _stages(
    arguments: argparse.Namespace,
    stages: Callable[[Session], None],
    explainer: str | None = None,
) -> int:
    """Run stages in a session, print what came of them, and tell failures by the exit code."""
    from rich.console import Console

    from autointerp.pipeline.breaker import StoppedError
    from autointerp.pipeline.run import session
    from autointerp.pipeline.summary import failures
    from autointerp.report import console

    errors = Console(stderr=True)
    stopped = None
    with (
        console.observer() as observe,
        session(_config(arguments), observe, explainer=explainer, force=arguments.force) as s,
    ):
        try:
            stages(s)
            s.enter("done")
        except StoppedError as reason:
            stopped = str(reason)
            s.stop(stopped)
        document, failed = s.summary(), failures(s.results, s.explainer)
        s.log.event("summary", **document)
    _print_summary(arguments, s, document)
    console.print_failures(errors, failed)
    if stopped:
        errors.print(f"stopped: {stopped}", markup=False, highlight=False)
    return FAILURES if failed or stopped else DONE


def _print_summary(arguments: argparse.Namespace, s: Session, document: dict[str, Any]) -> None:
    from rich.console import Console

    from autointerp.examples.store import ExampleStore
    from autointerp.pipeline.results import Results
    from autointerp.pipeline.summary import collected
    from autointerp.report import console

    if arguments.json:
        _print_json(document)
        return
    out = Console()
    console.print_collected(out, collected(ExampleStore.open(s.examples), s.path))
    console.print_summary(out, document)
    with Results.read(s.results.path) as results:
        console.print_best_and_worst(out, results, s.explainer)


def _collect(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline import run
    from autointerp.pipeline.summary import collected
    from autointerp.report import console

    with (
        console.observer() as observe,
        run.session(_config(arguments), observe, force=arguments.force) as s,
    ):
        document = collected(run.collect(s), s.path)
        s.enter("collected")
    if arguments.json:
        _print_json(document)
    else:
        console.print_collected(Console(), document)
    return DONE


def _status(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline.status import ENDED, find_run, is_running, read_status

    path = find_run(arguments.directory)
    document = read_status(path) if path is not None else None
    if path is None or document is None:
        return _refuse(f"no run at {arguments.directory} or runs/{arguments.directory}")
    document["running"] = is_running(path)
    if arguments.json:
        _print_json(document)
        return DONE
    stage = document["stage"]
    if not document["running"] and stage not in ENDED:
        stage = f"stopped in {stage} and not running; run it again to continue"
    print(f"{document['run']}: {stage}, {document['seconds']:.0f} s")
    if document.get("reason"):
        print(document["reason"])
    counts = ", ".join(f"{name} {count}" for name, count in document["by_status"].items())
    print(f"{document['latents']} latents: {counts or 'none yet'}")
    for scorer, figures in document["scores"].items():
        if figures["mean"] is not None:
            print(
                f"{scorer}: {figures['metric']} {figures['mean']:.3f} "
                f"({figures['low']:.3f} to {figures['high']:.3f}) over {figures['n']}"
            )
    return DONE


def _show(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.examples.store import ExampleStore
    from autointerp.latents import LatentId
    from autointerp.pipeline import directory, summary
    from autointerp.pipeline.results import Results
    from autointerp.report import console

    path = _existing(arguments.directory)
    latent = LatentId.parse(arguments.latent)
    with Results.read(path / directory.RESULTS) as results:
        document = summary.show(results, ExampleStore.open(path / directory.EXAMPLES), latent)
    if arguments.json:
        _print_json(document)
    else:
        console.print_latent(Console(), document)
    return DONE


def _existing(run: str) -> Path:
    from autointerp.latents import AutointerpError
    from autointerp.pipeline.status import find_run

    path = find_run(run)
    if path is None:
        raise AutointerpError(f"no run at {run} or runs/{run}")
    return path


def _prompts(arguments: argparse.Namespace) -> int:
    from autointerp.config import load_config
    from autointerp.latents import LatentId
    from autointerp.pipeline import directory
    from autointerp.pipeline.rendered import render_run
    from autointerp.report.prompts import as_document, print_prompts

    run = _existing(arguments.directory)
    place = [f"run.directory={json.dumps(str(run.parent))}", f"run.name={json.dumps(run.name)}"]
    config = load_config(run / directory.CONFIG, [*arguments.overrides, *place])
    rendered = render_run(config, LatentId.parse(arguments.latent))
    prompts = {"explainer": rendered.explainer, **rendered.scorers}
    if arguments.json:
        _print_json(as_document(prompts))
    else:
        print_prompts(prompts)
    return DONE


def _probe(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.latents import AutointerpError, LatentId
    from autointerp.pipeline.probe import probe, read_texts
    from autointerp.report import console

    texts = [*arguments.text, *(read_texts(arguments.texts) if arguments.texts else [])]
    if not texts:
        raise AutointerpError("nothing to probe; give --text TEXT or --texts FILE")
    latents = [LatentId.parse(text) for text in arguments.latent]
    document = probe(_config(arguments), latents, texts)
    if arguments.json:
        _print_json(document)
    else:
        console.print_probe(Console(), document)
    return DONE


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False))
