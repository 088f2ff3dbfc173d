"""Leaves a run as it was when a command is refused before it has done any work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autointerp.examples.store import MARKER
from autointerp.latents import AutointerpError
from autointerp.pipeline.directory import CONFIG, RECORD
from autointerp.pipeline.results import Results
from autointerp.pipeline.status import STATUS_FILE, write_atomically

TOLD = (CONFIG, RECORD, STATUS_FILE)  # what the run directory says of the run


@contextmanager
def as_it_was(
    run: Path, examples: Path, results: Results, settings: Mapping[str, Any]
) -> Iterator[None]:
    """When a command is refused, give the files that tell of a run their contents back, and its
    ``results`` these ``settings``; unless rows were written, or ``examples`` collected, before.

    Files that were not there stay.
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
            for path, text in before.items():
                write_atomically(path, text)
        raise
