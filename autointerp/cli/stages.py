"""The commands that work: all of a run, or one of its stages."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from autointerp.cli.common import DONE, FAILURES, print_json, read_config

if TYPE_CHECKING:
    from autointerp.pipeline.session import Session


def run(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work

    def stages(s: Session) -> None:
        store = work.collect(s)
        latents = work.chosen(s, store)
        work.explain(s, store, latents)
        work.score(s, store, latents)

    return _stages(arguments, stages)


def collect(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline import run as work
    from autointerp.pipeline.session import session
    from autointerp.pipeline.summary import collected
    from autointerp.report import console

    with (
        console.observer() as observe,
        session(read_config(arguments), observe, force=arguments.force) as s,
    ):
        document = collected(work.collect(s), s.path)
        s.enter("collected")
    if arguments.json:
        print_json(document)
    else:
        console.print_collected(Console(), document)
    return DONE


def explain(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work

    def stages(s: Session) -> None:
        store = work.collect(s)
        work.explain(s, store, work.chosen(s, store))

    return _stages(arguments, stages)


def score(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work

    if arguments.explanations is not None:
        return _score_file(arguments)

    def stages(s: Session) -> None:
        store = work.collect(s)
        work.score(s, store, work.chosen(s, store))

    return _stages(arguments, stages)


def _score_file(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work
    from autointerp.pipeline.imported import IMPORTED, check_readable, read_explanations, take_in

    def stages(s: Session) -> None:
        widths = {name: coder.d_sae for name, coder in s.coders.items()}
        explanations = read_explanations(arguments.explanations, widths)
        check_readable(s.config, arguments.explanations, explanations)
        store = work.collect(s)
        work.score(s, store, take_in(s, explanations))

    return _stages(arguments, stages, explainer=IMPORTED)


def _stages(
    arguments: argparse.Namespace,
    stages: Callable[[Session], None],
    explainer: str | None = None,
) -> int:
    """Run stages in a session, print what came of them, and tell failures by the exit code."""
    from rich.console import Console

    from autointerp.pipeline.breaker import StoppedError
    from autointerp.pipeline.session import session
    from autointerp.pipeline.summary import failures
    from autointerp.report import console

    errors = Console(stderr=True)
    stopped = None
    with (
        console.observer() as observe,
        session(read_config(arguments), observe, explainer=explainer, force=arguments.force) as s,
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
        print_json(document)
        return
    out = Console()
    console.print_collected(out, collected(ExampleStore.open(s.examples), s.path))
    console.print_summary(out, document)
    with Results.read(s.results.path) as results:
        console.print_best_and_worst(out, results, s.explainer)
        console.print_next(out, results, s.explainer, s.path)
