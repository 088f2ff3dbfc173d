"""How a vLLM server is called, and what its log says when it did not start."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from autointerp.latents import AutointerpError
from autointerp.sections import LLMSection, ServeSection

HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections: one of those could take the port while
# the server is started again.
PORTS = range(20_000, 32_000)
# The engine, not the request, must be told that JSON has no white space of the model's choice: a
# weak model writes nothing else until its tokens are spent. It takes that only with the name of a
# backend: guidance refuses the fewest schemas, and leaves one way to write a word in tokens.
ENGINE_FLAGS = (
    "--enable-prefix-caching",
    "--enable-prompt-tokens-details",  # cached tokens in the usage
    "--structured-outputs-config",
    '{"backend": "guidance", "disable_any_whitespace": true}',
)
FLAGS = (*ENGINE_FLAGS, "--disable-uvicorn-access-log")  # a line for each of millions of requests
TAIL_BYTES = 65536
MOST_SHOWN = 300  # characters of a log's line

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ERROR = re.compile(
    r"(?:\b[\w.]*(?:Error|Exception|Interrupt): |\berror: |\bValue error, ).+|No module named .+"
)
_POINTERS = ("See root cause above", "See stack trace (above)")


def serve_of(section: LLMSection) -> ServeSection:
    """What the section says of its server, or the defaults."""
    return section.serve or ServeSection()


def free_port() -> int:
    """A loopback port that nobody listens on.

    Raises:
        AutointerpError: if none is found.
    """
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AutointerpError(f"no free port on {HOST} from {PORTS.start} to {PORTS.stop - 1}")


def command_line(section: LLMSection, port: int) -> list[str]:
    """The user's command, the model, what we need, the user's arguments, and the address.

    The address comes last because the last of repeated arguments holds.
    """
    serve = serve_of(section)
    command = [part.replace("{model}", section.model) for part in serve.command]
    if command == serve.command:
        command.append(section.model)
    replicas = serve.data_parallel or max(1, len(serve.gpus))
    sizes = {
        "--data-parallel-size": replicas,
        "--tensor-parallel-size": max(1, len(serve.gpus) // replicas),
    }
    spread = [part for flag, size in sizes.items() if size > 1 for part in (flag, str(size))]
    return [*command, *FLAGS, *spread, *serve.args, "--host", HOST, "--port", str(port)]


def check_program(section: LLMSection, where: str) -> None:
    """Look for the command before anything is started.

    Raises:
        AutointerpError: if there is no such program.
    """
    check_installed(serve_of(section).command[0], where, "serve.command")


def check_installed(program: str, where: str, option: str) -> None:
    """Look for a program that an option names. Raises AutointerpError if there is none."""
    if shutil.which(program) is None:
        raise AutointerpError(
            f"{where}: no program {program!r}; install vLLM (pip install 'autointerp[vllm]'), name"
            f" the command of another environment as {option}, or give the base_url of a server"
        )


def environment(section: LLMSection, where: str, ours: Mapping[str, str]) -> dict[str, str]:
    """Our environment as the server gets it: its GPUs, no keys, no statistics sent home.

    ``gpus`` count as torch counts them: among those that are visible to us.

    Raises:
        AutointerpError: if a GPU is not visible.
    """
    secret = {section.api_key_env, "VLLM_API_KEY"}  # with the latter it would ask us for a key
    theirs = {name: value for name, value in ours.items() if name not in secret}
    # Its processes talk to one another over loopback too.
    theirs |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_HOST_IP": HOST}
    gpus = serve_of(section).gpus
    visible = ours.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        return theirs
    if visible is None:
        names = [str(gpu) for gpu in range(max(gpus) + 1)]
    else:
        names = [name.strip() for name in visible.split(",") if name.strip()]
    if max(gpus) >= len(names):
        raise AutointerpError(
            f"{where}.serve.gpus: there is no GPU {max(gpus)};"
            f" CUDA_VISIBLE_DEVICES={visible} shows {len(names)}, counted from 0"
        )
    return {**theirs, "CUDA_VISIBLE_DEVICES": ",".join(names[gpu] for gpu in gpus)}


def tail(log: Path, start: int) -> list[str]:
    """The last lines of a log, without colours; nothing from before byte ``start``."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return [line for line in (_ESCAPES.sub("", line).strip() for line in text.splitlines()) if line]


def telling_line(lines: list[str]) -> str:
    """Why a server died: its last error, rather not one that points to another; else its last line.

    Errors that a warning mentions do not count.
    """
    found = [_ERROR.search(line) for line in lines if " WARNING " not in line]
    errors = [match.group() for match in found if match]
    reasons = [error for error in errors if not any(phrase in error for phrase in _POINTERS)]
    told = (reasons or errors or lines or ["it said nothing"])[-1]
    return " ".join(told.split())[:MOST_SHOWN]
