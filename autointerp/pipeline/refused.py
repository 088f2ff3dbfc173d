"""Leaves a run as it was, or no run, when a command is refused before it has done any work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autointerp.examples.store import MARKER
from autointerp.latents import AutointerpError
from autointerp.pipeline.directory import CONFIG, EVENTS, EXAMPLES, RECORD, RESULTS
from autointerp.pipeline.own_texts import EXPLAINER
from autointerp.pipeline.results import Results
from autointerp.pipeline.shard_status import RECORD as SHARD
from autointerp.pipeline.status import LOCK, STATUS_FILE, write_atomically

TOLD = (CONFIG, RECORD, STATUS_FILE)  # what the run directory says of the run
EMPTY = {*TOLD, RESULTS, LOCK, EVENTS, SHARD}  # what any command writes into it before it works


@contextmanager
def without_trace(run: Path, made: Sequence[Path]) -> Iterator[None]:
    """When a command is refused that has left no work in the run directory, remove the directory if
    it is among those ``made`` for the command, and then the others."""
    try:
        yield
    except AutointerpError:
        if made and _is_without_work(run):
            shutil.rmtree(run, ignore_errors=True)
            with suppress(OSError):  # there is something else in one
                for folder in made[1:]:
                    folder.rmdir()
        raise


def _is_without_work(run: Path) -> bool:
    if any((run / EXAMPLES).glob("*")) or not {p.name for p in run.iterdir()} <= {*EMPTY, EXAMPLES}:
        return False
    if not (run / RESULTS).exists():
        return True
    with Results.read(run / RESULTS) as results:
        return not results.has_rows()


@contextmanager
def as_it_was(
    run: Path,
    examples: Path,
    results: Results,
    settings: Mapping[str, Any],
    about: str | None,
) -> Iterator[None]:
    """When a command is refused, give the files that tell of a run their contents back, and its
    ``results`` these ``settings`` and the explainer that they were ``about``; unless rows were
    written, or ``examples`` collected, before.
    """

    def done() -> tuple[int, bool]:
        return results.written, (examples / MARKER).exists()

    before = {path: path.read_text("utf-8") for name in TOLD if (path := run / name).exists()}
    began = done()
    try:
        yield
    except AutointerpError:
        if done() == began:
            results.put_settings(settings)
            results.note(EXPLAINER, about)
            for path, text in before.items():
                write_atomically(path, text)
        raise
