"""What a running command shows of its progress on standard error.

A terminal gets one panel: a bar a stage, and below what ``status.json`` says. Elsewhere a plain
line is written every minute, as of the last status.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from autointerp.pipeline.status import SECONDS_BETWEEN, read_status
from autointerp.report.progress import asked, lines, scores, spent, trouble

SECONDS_BETWEEN_LINES = 60.0

Observe = Callable[[str, int, int], None]  # stage, done, of how many
Document = dict[str, Any]


@contextmanager
def observer(run: Path | None = None) -> Iterator[Observe]:
    """Shows how long work fares for as long as the block lasts; the observer is told of its
    stages, and nothing is shown before the first. ``run`` is the directory of the run, if this
    process is at work on one."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Panel(console, run) as panel:
            yield panel
        return
    with _Lines(console, run) as plain:
        yield plain


class _Latest:
    """The last status that this process wrote."""

    def __init__(self, run: Path | None) -> None:
        self._run, self._read = run, 0.0
        self._known: Document | None = None

    def get(self) -> Document | None:
        if self._run and time.monotonic() - self._read >= SECONDS_BETWEEN / 2:
            found = read_status(self._run)
            self._known = found if found and found.get("pid") == os.getpid() else None
            self._read = time.monotonic()
        return self._known


class Panel:
    """A bar a stage, and the lines of the status below."""

    def __init__(self, console: Console, run: Path | None) -> None:
        columns = (
            TextColumn("{task.description:>8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        self._bars = Progress(*columns, console=console)
        self._tasks: dict[str, Any] = {}
        self._latest = _Latest(run)
        self._live = Live(self, console=console, refresh_per_second=2)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._tasks:
            self._live.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        document = self._latest.get()
        told = list(_below(document)) if document else []
        yield Group(self._bars, *(Text(line, "dim") for line in told))

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tasks:
            self._live.stop()


def _below(document: Document) -> Iterator[str]:
    """The bars tell the pace."""
    yield from (line for line in (asked(document), spent(document)) if line)
    yield from trouble(document)
    yield from scores(document)


class _Lines:
    """One line of plain text a minute."""

    def __init__(self, console: Console, run: Path | None) -> None:
        self._console, self._latest = console, _Latest(run)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="progress", daemon=True)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._thread.is_alive() and not self._stop.is_set():
            self._thread.start()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LINES):
            if document := self._latest.get():
                told = "; ".join(lines(document))
                line = Text(f"{time.strftime('%H:%M:%S')} {told}")
                self._console.print(line, soft_wrap=True)
