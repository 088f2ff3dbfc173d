"""Batch files that a program on this machine answers, such as ``vllm run-batch``."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from autointerp.llm import guarded
from autointerp.llm.batches import Ended
from autointerp.llm.journal_batches import Batch
from autointerp.llm.transport import Fault, Refusal
from autointerp.llm.vllm_command import ENGINE_FLAGS, environment, tail, telling_line
from autointerp.sections import LLMSection


class BatchProgram:
    """Runs the program once for every batch, one after another. Its log lies beside the files.

    Raises:
        AutointerpError: if the program cannot be started.
    """

    def __init__(self, section: LLMSection, where: str, folder: Path) -> None:
        assert section.waves is not None
        self._command, self._model = section.waves.command, section.model
        self._where = f"{where}.batch.command"
        self._environment = environment(section, where, os.environ)
        self._folder = folder
        self._log = folder / "program.log"
        self._turn = asyncio.Lock()  # two would not fit on one GPU
        self._running: dict[str, guarded.Guarded] = {}

    async def submit(self, batch: Batch, file: Path) -> str:
        """Start the program, after the one before it has ended."""
        if batch.endpoint != "/chat/completions":
            raise Refusal("setup", f"{self._where} answers no plain completions with echo")
        await self._turn.acquire()
        command = command_line(self._command, file, self._output(batch), self._model)
        try:
            self._running[batch.id] = guarded.spawn(command, self._log, self._environment)
        except OSError as error:
            self._turn.release()
            raise Refusal("setup", f"{self._where}: cannot start it: {error}") from error
        return batch.id

    async def find(self, batch: Batch) -> str | None:
        """What a program of an earlier start has left; those have ended with their run."""
        return batch.id if self._output(batch).exists() else None

    async def ended(
        self, batch: Batch, name: str, folder: Path, seen: Callable[[int], None]
    ) -> Ended:
        """Wait for the program, and take what it has written."""
        others: Fault | Refusal = Fault("server", "the program left this out", billed=False)
        if name in self._running:
            process, log_start = self._running[name]
            while process.poll() is None:
                await asyncio.sleep(guarded.POLL_SECONDS)
            del self._running[name]
            self._turn.release()
            if process.returncode:
                others = Refusal("setup", self._death(process, log_start))
        output = self._output(batch)
        return Ended((output,) if output.exists() else (), others)

    def sort(self, status: int, said: str) -> Fault | Refusal:
        """A program refuses a request for good; what it could not do may succeed another time."""
        reason = f"{self._where}: {said}"
        if status >= 500:
            return Fault("server", reason, billed=False)
        structured = any(word in said.lower() for word in ("response_format", "json_schema"))
        return Refusal("schema" if structured else "request", reason)

    async def close(self) -> None:
        """Stop the program that runs."""
        await asyncio.gather(*(guarded.end(one.process) for one in self._running.values()))

    def _output(self, batch: Batch) -> Path:
        return self._folder / f"{batch.id}-output.jsonl"

    def _death(self, process: subprocess.Popen[bytes], log_start: int) -> str:
        line = telling_line(tail(self._log, log_start))
        return f"{self._where} died {guarded.status(process)}: {line} (log: {self._log})"


def command_line(command: list[str], file: Path, output: Path, model: str) -> list[str]:
    """The user's command with the files and the model where it says so, else where vLLM does."""
    given = {"{input}": str(file), "{output}": str(output), "{model}": model}
    flags = {"{input}": "-i", "{output}": "-o", "{model}": "--model"}
    parts = list(command)
    for place, value in given.items():
        filled = [part.replace(place, value) for part in parts]
        parts = filled if filled != parts else [*parts, flags[place], value]
    of_vllm = any(part.replace("_", "-").endswith("run-batch") for part in command)
    return [*parts, *(ENGINE_FLAGS if of_vllm else ())]
