"""Programs that must not outlive the run: each below a watchdog, in a session of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from autointerp.llm import watchdog

POLL_SECONDS = 0.2
STOP_SECONDS = watchdog.GRACE_SECONDS + 1


class Guarded(NamedTuple):
    """A program that was started, and where in its log its own words begin."""

    process: subprocess.Popen[bytes]
    log_start: int


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Guarded:
    """Start a program (no Ctrl-C reaches it); what it says is added to ``log``.

    Raises:
        OSError: if that cannot be done.
    """
    guard = [sys.executable, "-I", watchdog.__file__, str(os.getpid())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as said:
        start = said.tell()
        process = subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
    return Guarded(process, start)


async def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a program through its watchdog, and kill what is left of it."""
    process.terminate()
    ended = time.monotonic() + STOP_SECONDS
    try:
        while process.poll() is None and time.monotonic() < ended:
            await asyncio.sleep(POLL_SECONDS / 4)
    finally:
        # Processes that it started outlive it where it was killed, or its watchdog.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(process: subprocess.Popen[bytes]) -> str:
    return f"(exit status {process.returncode})"  # 137 is SIGKILL, as when memory runs out
