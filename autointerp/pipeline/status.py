"""``status.json``: what a run says of itself while it runs. Imports nothing heavy."""

from __future__ import annotations

import fcntl
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

SECONDS_BETWEEN = 2.0
STATUS_FILE = "status.json"
LOCK = ".lock"
FRESH = 30.0  # seconds that the status of a process at work is at most old, over any file system
ENDED = ("done", "collected", "stopped")  # stages in which no process is expected

Document = dict[str, Any]


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old text or the new one, never a part.

    One writer at a time: all write to the same unfinished file, so that killed ones leave one.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def read_status(run: Path) -> Document | None:
    """The last status written to a run directory; None if there is none."""
    try:
        document: Document = json.loads((run / STATUS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return document


def is_running(run: Path) -> bool:
    """Whether a process holds the run directory for writing."""
    try:
        with (run / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def age(run: Path, document: Document) -> float:
    """Seconds since the status was written: by what it says or by its file, whichever is less,
    since the clocks of two machines may differ."""
    written = max(float(document.get("written", 0.0)), (run / STATUS_FILE).stat().st_mtime)
    return max(0.0, time.time() - written)


def is_at_work(run: Path, document: Document, locked: bool = False) -> bool:
    """Whether a process works on the run: one here holds its lock; of one on another machine, where
    locks may not reach, the status is fresh. ``locked`` says that the lock is the caller's."""
    if not locked and is_running(run):
        return True
    elsewhere = document.get("host", socket.gethostname()) != socket.gethostname()
    return elsewhere and document["stage"] not in ENDED and age(run, document) < FRESH


def find_run(name: str, directory: str = "runs") -> Path | None:
    """A run by its path, or by its name under ``directory``; None if there is neither."""
    return next((p for p in (Path(name), Path(directory) / name) if p.is_dir()), None)


class StatusWriter:
    """Writes what ``describe`` returns to ``status.json`` every two seconds, from a thread.

    ``describe`` is called in that thread. What it raises ends the thread and is raised again
    at the end of the block. A status that could not be written is followed by the next one; only
    the last one must be, unless the block itself raises.
    """

    def __init__(self, run: Path, describe: Callable[[], Document]) -> None:
        self._path = run / STATUS_FILE
        self._describe = describe
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="status", daemon=True)

    def __enter__(self) -> StatusWriter:
        self.write()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
        if self._error is None:
            # Where the block failed, as on a full disk, its own error says more.
            with suppress(OSError) if kind else nullcontext():
                self.write()

    def write(self) -> None:
        write_atomically(self._path, json.dumps(self._describe(), indent=1) + "\n")

    def _loop(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN):
            try:
                self.write()
            except OSError:
                continue  # the disk may have room again in two seconds
            except Exception as error:  # noqa: BLE001 – raised again by __exit__
                self._error = error
                return
