"""Starts Ray for this process, or reaches a cluster that runs: quietly, and leaving no trace."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from threading import current_thread, main_thread
from typing import Any

from autointerp.latents import AutointerpError
from autointerp.sections import EngineSection
from autointerp.subject.reasons import first_line

STARTS = 3  # of Ray on this machine, if it does not come up
ANSWERED_WITHIN = 10.0  # seconds, by a cluster
OBJECT_STORE = 2**28  # bytes of shared memory: answers of all workers, on their way here

# Read when Ray is imported: usage statistics, and the address of a cluster of this machine alone.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def check_installed() -> None:
    """Raise AutointerpError unless the extra is installed; imports nothing."""
    if find_spec("ray") is None:
        raise AutointerpError(
            "engine.kind: ray needs Ray; pip install 'autointerp[ray]', or pip install -e '.[ray]'"
            " in a checkout"
        )


@contextmanager
def started(engine: EngineSection) -> Iterator[None]:
    """Ray for this process: quiet, and on loopback alone unless there is an address.

    Raises:
        AutointerpError: if Ray cannot be started, or there is none at the address.
    """
    address = engine.address
    os.environ.update(_QUIET if address else {**_QUIET, **_LOOPBACK})
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        _check_address(address)
        options["address"] = address
    else:
        cpus = max(os.cpu_count() or 1, engine.workers or 1)
        options |= {"include_dashboard": False, "num_cpus": cpus}
        options["object_store_memory"] = OBJECT_STORE
    _init(options)
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise AutointerpError where nothing answers, for which Ray itself waits for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERED_WITHIN).close()
    except (OSError, OverflowError, ValueError) as error:
        raise AutointerpError(
            f"engine.address {address}: {first_line(error)}; write auto, or HOST:PORT as"
            " `ray start --head` tells it"
        ) from error


def _init(options: Mapping[str, Any]) -> None:
    """Start or reach Ray; again if that fails, for it gives a busy machine 30 seconds only."""
    import ray

    handlers = _handlers()
    for left in reversed(range(STARTS)):
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises bare ones
            if not left or "address" in options:
                where = f"at {address}" if (address := options.get("address")) else "here"
                raise AutointerpError(f"cannot use Ray {where}: {first_line(error)}") from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _handlers() -> dict[int, Any]:
    """The handlers of signals, which Ray replaces; none where they cannot be set again."""
    if current_thread() is not main_thread():
        return {}
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
