"""Starts vLLM servers for a run, keeps them alive, and stops them with it.

``async with serving(config.llms, run_directory) as servers, open_llms(…, endpoints=servers)``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import aiohttp

from autointerp.latents import AutointerpError
from autointerp.llm import guarded
from autointerp.llm.transport import Refusal
from autointerp.llm.vllm_command import (
    HOST,
    check_program,
    command_line,
    environment,
    free_port,
    serve_of,
    tail,
    telling_line,
)
from autointerp.sections import LLMSection

HEALTH_SECONDS = 5.0
MOST_DEATHS = 4  # within DEATHS_SECONDS: then something is wrong that no restart mends
DEATHS_SECONDS = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Starting:
    """A server that is not up yet: its client, how long it takes so far, its log's last line."""

    name: str
    seconds: float
    line: str


Progress = Callable[[Starting], None]


@asynccontextmanager
async def serving(
    sections: Mapping[str, LLMSection], folder: Path, progress: Progress | None = None
) -> AsyncIterator[dict[str, VLLMServer]]:
    """Start a server for every section that asks for one; equal sections share theirs.

    They start one after another, because vLLM measures the free memory of a GPU as it starts.
    Their logs are ``folder/vllm-NAME.log``.

    Raises:
        AutointerpError: in one line, if a server does not start.
    """
    started: dict[tuple[str, str], VLLMServer] = {}
    servers: dict[str, VLLMServer] = {}
    try:
        for name, section in sections.items():
            if section.backend != "vllm" or section.base_url is not None:
                continue
            key = (section.model, serve_of(section).model_dump_json())
            if key not in started:
                started[key] = VLLMServer(name, section, folder, progress)
                await started[key].started()
            servers[name] = started[key]
        yield servers
    finally:
        await asyncio.gather(*(server.stop() for server in started.values()))


class VLLMServer:
    """One server on a loopback port. It starts when the object is made, in a running loop.

    Raises:
        AutointerpError: if its program or a GPU is not there.
    """

    def __init__(
        self, name: str, section: LLMSection, folder: Path, progress: Progress | None = None
    ) -> None:
        self.name = name
        self.log = folder / ("vllm-" + re.sub(r"[^\w.-]", "-", name) + ".log")
        self._where = f"llms.{name}"
        self._progress = progress or (lambda _: None)
        self._minutes = serve_of(section).startup_minutes
        check_program(section, self._where)
        self._environment = environment(section, self._where, os.environ)
        port = free_port()
        self._root = f"http://{HOST}:{port}"
        self._command = command_line(section, port)
        self._log_start = 0
        self._was_up = False
        self._up = asyncio.Event()
        self._life = asyncio.create_task(self._live())

    @property
    def url(self) -> str:
        """The base URL of its API; it does not change when the server is started again."""
        return f"{self._root}/v1"

    async def started(self) -> None:
        """Return when it is up for the first time.

        Raises:
            AutointerpError: if it dies, or takes too long.
        """
        await self._settled()
        if self._life.done():
            self._life.result()

    async def ready(self) -> None:
        """Return when the server takes requests: at once, or after its restart.

        Raises:
            Refusal: if it died too often to be started again.
        """
        try:
            await self.started()
        except AutointerpError as error:
            raise Refusal("setup", str(error)) from error

    async def stop(self) -> None:
        """Stop it, however far it has come."""
        self._life.cancel()
        await asyncio.wait([self._life])

    async def _settled(self) -> None:
        """Wait until it is up, or will never be again."""
        if self._up.is_set() or self._life.done():
            return
        up = asyncio.create_task(self._up.wait())
        try:
            await asyncio.wait([up, self._life], return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()

    async def _live(self) -> None:
        """Run the server, again whenever it dies, until it dies too often."""
        deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        while True:
            try:
                await self._run()
            except AutointerpError as error:
                if not self._was_up:
                    raise
                deaths.append(time.monotonic())
                if len(deaths) == MOST_DEATHS and deaths[-1] - deaths[0] < DEATHS_SECONDS:
                    raise AutointerpError(f"{error}; it died {MOST_DEATHS} times") from error
                _log.warning("%s; it is started again", error)

    async def _run(self) -> NoReturn:
        """Start the server and watch it until it dies. Raises AutointerpError that tells why."""
        process = self._spawn()
        try:
            await self._come_up(process)
            self._was_up = True
            self._up.set()
            while process.poll() is None:
                await asyncio.sleep(guarded.POLL_SECONDS)
            raise AutointerpError(self._death(f"died {guarded.status(process)}"))
        finally:
            self._up.clear()
            await guarded.end(process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the command below a watchdog, in a session of its own (no Ctrl-C reaches it)."""
        try:
            process, self._log_start = guarded.spawn(self._command, self.log, self._environment)
        except OSError as error:
            raise AutointerpError(f"{self._where}: cannot start a vLLM server: {error}") from error
        return process

    async def _come_up(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers. Raises AutointerpError if it dies or takes too long."""
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=HEALTH_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await self._answers(session):
                seconds = time.monotonic() - began
                if process.poll() is not None:
                    early = f"died as it started {guarded.status(process)}"
                    raise AutointerpError(self._death(early))
                if seconds > 60 * self._minutes:
                    late = f"did not answer within {self._minutes:g} minutes (startup_minutes)"
                    raise AutointerpError(self._death(late))
                lines = tail(self.log, self._log_start)
                self._progress(Starting(self.name, seconds, lines[-1] if lines else ""))
                await asyncio.sleep(guarded.POLL_SECONDS)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self._root}/health") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _death(self, what: str) -> str:
        line = telling_line(tail(self.log, self._log_start))
        return f"{self._where}: the vLLM server {what}: {line} (log: {self.log})"
