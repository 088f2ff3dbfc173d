"""The run directory: one writer at a time, room to write, and what the run was made of."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline.status import FRESH, LOCK, is_at_work, read_status, write_atomically

RESULTS = "results.sqlite"
EXAMPLES = "examples"
CONFIG = "config.yaml"
RECORD = "versions.json"
EVENTS = "log.jsonl"
LOCK_ATTEMPTS = 10
WAIT = 0.5  # seconds between two looks at whether another machine is at work


@contextmanager
def writing(run: Path) -> Iterator[list[Path]]:
    """Make the directory, and hold it against other writers until the end of the block.

    Gives the directories that were made: the run's first, then those above it.

    Raises:
        AutointerpError: if it cannot be written, or another process holds it.
    """
    try:
        made = [folder for folder in (run, *run.parents) if not folder.exists()]
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / LOCK).open("w")
    except OSError as error:
        raise AutointerpError(
            f"cannot write to {run}: {error.strerror}; set run.directory"
        ) from error
    with lock:
        _hold(lock, run)
        _wait_for_others(run)
        yield made


def _hold(lock: IO[str], run: Path) -> None:
    for _ in range(LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # perhaps only by a look at the status, which takes an instant
            time.sleep(0.02)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise AutointerpError(
                f"the file system of {run} keeps no locks; mount it with them, or set run.directory"
                " to another"
            ) from error
        else:
            return
    raise AutointerpError(f"another process is running in {run}; wait, or stop it")


def _wait_for_others(run: Path) -> None:
    """Refuse a directory that a process on another machine works in, where no lock tells of it.

    Such a process writes its status every few seconds; one that has just ended does not.
    """
    first = read_status(run)
    until = time.monotonic() + FRESH
    while first and time.monotonic() < until and is_at_work(run, first, locked=True):
        time.sleep(WAIT)
        if (read_status(run) or first).get("written") != first.get("written"):
            host = first.get("host")
            raise AutointerpError(f"another process is running in {run}, on {host}; stop it first")


def check_space(run: Path, needed: int) -> None:
    """Refuse to begin what will not fit on the disk; ``needed`` is in bytes.

    Raises:
        AutointerpError: with what is needed and what is free.
    """
    free = shutil.disk_usage(run).free
    if free < needed:
        raise AutointerpError(
            f"{run} needs about {needed / 2**20:,.0f} MiB and its disk has "
            f"{free / 2**20:,.0f} MiB free; set run.directory to another disk"
        )


def free_bytes(path: Path) -> int:
    """Room on the disk where a directory is, or will be."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def store_bytes(tokens: int, latents: int, windows: int, window: int) -> int:
    """About the most that an example store takes: ``windows`` kept of each latent."""
    per_window = 24 + window // 4 * 5
    return tokens * 4 + latents * windows * per_window


def size(folder: Path) -> int:
    """The bytes of all files below a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class RunLog:
    """``log.jsonl``: one JSON object an event, appended; an output only, never read back.

    Every event has ``time`` (seconds since 1970), ``host``, ``pid``, ``stage`` (of the run, or of
    what failed) and ``event``; the others are its own: ``stage`` begins one, ``collected``,
    ``progress`` (as in status.json, once a minute), ``failed`` (a latent, with ``error`` and
    ``traceback``), ``escalation``, ``breaker`` (why a run was stopped), ``merged`` and ``summary``.
    """

    def __init__(self, run: Path) -> None:
        self.stage = "starting"
        self._lock = threading.Lock()  # progress is told from a thread of its own
        self._file: IO[str] = (run / EVENTS).open("a", encoding="utf-8")

    def event(self, name: str, **fields: Any) -> None:
        at = {"time": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid()}
        entry = {**at, "stage": self.stage, "event": name, **fields}
        with self._lock:
            self._file.write(json.dumps(entry, default=str) + "\n")
            self._file.flush()

    def failure(self, stage: str, latent: LatentId, error: BaseException) -> None:
        """Record one latent's failure with its traceback."""
        trace = "".join(traceback.format_exception(error))
        self.event("failed", stage=stage, latent=str(latent), error=str(error), traceback=trace)

    def close(self) -> None:
        self._file.close()


def record(run: Path, **fields: Any) -> None:
    """Add to what the run directory says that the run was made of."""
    told = {**read_record(run), **fields}
    write_atomically(run / RECORD, json.dumps(told, indent=1) + "\n")


def read_record(run: Path) -> dict[str, Any]:
    """Versions, checkpoint hashes and the corpus's fingerprint; empty if not yet written."""
    path = run / RECORD
    told: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return told
