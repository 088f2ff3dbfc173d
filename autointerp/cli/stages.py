"""The commands that work: all of a run, or one of its stages."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from autointerp.cli.common import DONE, FAILURES, part_of, print_json, read_config
from autointerp.cli.merging import print_merge

if TYPE_CHECKING:
    from autointerp.config import RunConfig
    from autointerp.pipeline.session import Session
    from autointerp.pipeline.shards import Part, Stage


def add_options(
    retrying: Sequence[argparse.ArgumentParser], sharded: Sequence[argparse.ArgumentParser]
) -> None:
    """The options of stages that can be done in shards, and of those that can try again."""
    for parser in retrying:
        parser.add_argument(
            "--retry-failed", action="store_true", help="ask again for what failed before"
        )
    for parser in sharded:
        parser.add_argument(
            "--shard", metavar="I/N", help="one of N equal parts, from 1; see `autointerp merge`"
        )


def run(arguments: argparse.Namespace, last: Callable[[Session], None] | None = None) -> int:
    """All stages; ``last`` is done after them."""
    from autointerp.pipeline import run as work

    def stages(s: Session) -> None:
        store = work.collect(s)
        latents = work.chosen(s, store)
        work.explain(s, store, latents)
        work.score(s, store, latents)
        if last:
            last(s)

    return _stages(arguments, stages, ("explain", "score"))


def collect(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from autointerp.pipeline import run as work
    from autointerp.pipeline import sharding
    from autointerp.pipeline.session import session
    from autointerp.pipeline.summary import collected
    from autointerp.report import console, live

    config, part = read_config(arguments), part_of(arguments, "collect")
    with (
        live.observer(part.path(config.run.path) if part else config.run.path) as observe,
        session(config, observe, force=arguments.force, part=part) as s,
    ):
        store = sharding.collect_part(s, part) if part else work.collect(s)
        document = collected(store, s.path)
        s.enter("collected")
    if arguments.json:
        print_json(document)
    else:
        console.print_collected(Console(), document)
        if part:
            print_merge(config.run.path)
    return DONE


def explain(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work
    from autointerp.pipeline import sharding

    part = part_of(arguments, "explain")

    def stages(s: Session) -> None:
        if part:
            sharding.explain_part(s, part)
            return
        store = work.collect(s)
        work.explain(s, store, work.chosen(s, store))

    return _stages(arguments, stages, ("explain",), part=part)


def score(arguments: argparse.Namespace) -> int:
    from autointerp.latents import AutointerpError
    from autointerp.pipeline import run as work
    from autointerp.pipeline import sharding
    from autointerp.pipeline.scorable import check_explained

    part = part_of(arguments, "score")
    if part and arguments.explanations is not None:
        raise AutointerpError("--explanations and --shard do not go together; score the file whole")
    if arguments.explanations is not None:
        return _score_file(arguments)

    def stages(s: Session) -> None:
        if part:
            sharding.score_part(s, part)
            return
        check_explained(s)
        store = work.collect(s)
        latents = work.chosen(s, store)
        check_explained(s, latents)
        work.score(s, store, latents)

    return _stages(arguments, stages, ("score",), part=part)


def _score_file(arguments: argparse.Namespace) -> int:
    from autointerp.pipeline import run as work
    from autointerp.pipeline.imported import check_readable, read_explanations, take_in
    from autointerp.pipeline.rows import IMPORTED

    def stages(s: Session) -> None:
        widths = {name: coder.d_sae for name, coder in s.coders.items()}
        explanations = read_explanations(arguments.explanations, widths)
        check_readable(s.config, arguments.explanations, explanations)
        store = work.collect(s)
        work.score(s, store, take_in(s, explanations))

    return _stages(arguments, stages, ("score",), explainer=IMPORTED)


def _stages(
    arguments: argparse.Namespace,
    stages: Callable[[Session], None],
    names: Sequence[Stage],
    explainer: str | None = None,
    part: Part | None = None,
) -> int:
    """Run stages in a session, print what came of them, and tell failures by the exit code."""
    from rich.console import Console

    from autointerp.pipeline.breaker import StoppedError
    from autointerp.pipeline.failing import failures
    from autointerp.pipeline.session import session
    from autointerp.report import console, live

    errors = Console(stderr=True)
    stopped = None
    config = read_config(arguments)
    _look_ahead(config, names)
    with (
        live.observer(part.path(config.run.path) if part else config.run.path) as observe,
        session(
            config,
            observe,
            explainer=explainer,
            force=arguments.force,
            part=part,
            retries=names if getattr(arguments, "retry_failed", False) else (),
        ) as s,
    ):
        if switched := _switched(s, explainer):
            errors.print(switched, markup=False, highlight=False, soft_wrap=True)
        try:
            stages(s)
            s.enter("done")
        except StoppedError as reason:
            stopped = str(reason)
            s.stop(stopped)
        document, failed = s.summary(), failures(s.results, s.explainer)
        s.log.event("summary", **document)
    if arguments.json:
        print_json(document)
    else:
        _print_summary(s, document, names)
    console.print_failures(errors, failed)
    if failed:
        again = f"try them again: {_again(arguments, s)}"
        errors.print(again, markup=False, highlight=False, soft_wrap=True)
    if stopped:
        errors.print(f"stopped: {stopped}", markup=False, highlight=False)
    return FAILURES if failed or stopped else DONE


def _switched(s: Session, imported: str | None) -> str | None:
    """That a run is about the explanations of another explainer than before, if it is."""
    if imported or s.before in (None, s.explainer):
        return None
    return (
        f"{s.path}: the explainer is now {s.explainer}, in place of {s.before}; the explanations"
        f" of {s.before} stay in the run"
    )


def _look_ahead(config: RunConfig, names: Sequence[Stage]) -> None:
    """Refuse, before any work, what would stop a stage in the middle: servers and models that are
    away."""
    from autointerp.llm.reachable import check_reachable
    from autointerp.pipeline.building import check_embedder

    asked = {llm for name in names if name != "collect" for llm in config.llm_names(name)}
    check_reachable(config.llms, sorted(asked), config.journal)
    if "score" in names or config.examples.semantic:
        check_embedder(config)


def _again(arguments: argparse.Namespace, s: Session) -> str:
    """The command that tries again what failed."""
    words = ["autointerp", "run"]
    if s.part:
        words = ["autointerp", s.part.stage, "--shard", str(s.part.shard)]
    elif s.explainer != s.config.explainer["kind"]:
        words = ["autointerp", "score", "--explanations", str(arguments.explanations)]
    return shlex.join([*words, "--run", str(s.config.run.path), "--retry-failed"])


def _print_summary(s: Session, document: dict[str, Any], names: Sequence[Stage]) -> None:
    """What the command did: of a single stage no more than its own scores, of a rerun not what its
    run collected."""
    from rich.console import Console

    from autointerp.examples.store import ExampleStore
    from autointerp.pipeline.results import Results
    from autointerp.pipeline.summary import collected
    from autointerp.report import console
    from autointerp.report.ranking import print_latents, print_next

    out, whole = Console(), len(names) > 1
    if whole and not s.config.run.rerun:
        console.print_collected(out, collected(ExampleStore.open(s.examples), s.path))
    own = [x["kind"] for x in s.config.scorers] if "score" in names else []
    console.print_summary(out, document, None if whole else own)
    if s.part:
        print_merge(s.config.run.path)
        return
    with Results.read(s.results.path) as results:
        tell = print_latents if whole else print_next
        tell(out, results, s.explainer, s.path)
