"""Runs a command for as long as a parent process lives: ``python watchdog.py PARENT COMMAND…``.

A server must not outlive its run, not even one that was killed with SIGKILL, which runs no code of
ours in the parent. The death signal that Linux offers (PR_SET_PDEATHSIG) does not do: it reaches
only the direct child, often a wrapper, and not the engine processes below; it comes when the
thread that started the child ends; and it must be set between fork and exec, which is not safe in
a process with threads. So this process stands between: it leads a session of its own, in whose
process group the command and all below it are, and stops that group when its parent is gone or
sends it SIGTERM.

Run by its path, as a program of the standard library alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

POLL_SECONDS = 0.1
GRACE_SECONDS = 3.0  # between SIGTERM and SIGKILL


def main(parent: int, command: list[str]) -> int:
    """Run ``command`` in this process group; its exit status, once it ended of itself."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None and not stopping and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if child.returncode is not None and os.getppid() == parent:
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
    os.killpg(0, signal.SIGTERM)
    ended = time.monotonic() + GRACE_SECONDS
    while child.poll() is None and time.monotonic() < ended:
        time.sleep(POLL_SECONDS)
    os.killpg(0, signal.SIGKILL)  # what the command left behind, and this process
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
