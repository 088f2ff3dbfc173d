"""The commands: parse, call, print. Imports of what does the work are inside the commands."""

from __future__ import annotations

import argparse
import atexit
import errno
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from autointerp.cli.common import INTERRUPTED, refuse
from autointerp.cli.looking import status
from autointerp.cli.parser import parse

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
    arguments = parse(argv)
    looks: bool = arguments.command is status
    if looks:  # before any import that takes time
        return status(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    return _guarded(arguments)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do as on Ctrl-C, on which an event loop cancels its tasks before it ends."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(number, frame)


def _ignore_signals() -> None:
    """While libraries are unloaded: a second Ctrl-C in the middle of that can take a minute."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _guarded(arguments: argparse.Namespace) -> int:
    import sqlite3

    from autointerp.latents import AutointerpError

    try:
        code: int = arguments.command(arguments)
        return code
    except AutointerpError as error:
        return refuse(str(error))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        atexit.register(_ignore_signals)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        where = f" {error.filename}" if error.filename else ""
        return refuse(f"cannot write{where}: {error.strerror}; {_ADVICE[error.errno]}")
    except sqlite3.OperationalError as error:
        advice = next((a for phrase, a in _SQLITE_ADVICE.items() if phrase in str(error)), None)
        if advice is None:
            raise
        return refuse(f"cannot write results: {error}; {advice}")
