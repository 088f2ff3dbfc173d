"""One process's work in one run directory: what the stages of a run share, and what it tells."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.latents import AutointerpError
from autointerp.llm.opening import check_llms
from autointerp.llm.vllm_server import Starting, VLLMServer, serving
from autointerp.pipeline import building, directory
from autointerp.pipeline.results import Results
from autointerp.pipeline.selection import check_range
from autointerp.pipeline.status import STATUS_FILE, StatusWriter, read_status, write_atomically
from autointerp.pipeline.summary import Document, summarise
from autointerp.sections import ServeSection
from autointerp.subject.coders import SparseCoder
from autointerp.subject.embedder import check_installed
from autointerp.subject.model import Subject

Observe = Callable[[str, int, int], None]  # stage, done, of how many
STARTING = "starting"  # the stage before the first
QUIET = 30  # summaries for status.json take at most one part in so many of the time


@dataclass
class Session:
    """One process's work in one run directory. Make it with :func:`session`."""

    config: RunConfig
    path: Path
    results: Results
    log: directory.RunLog
    observe: Observe
    explainer: str
    runner: asyncio.Runner
    force: bool = False
    stage: str = STARTING
    reason: str | None = None
    planned: int = 0
    _began: float = field(default_factory=time.monotonic)
    _before: float = 0.0
    _known: Document | None = None
    _known_until: float = 0.0
    _servers: Mapping[str, VLLMServer] | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @cached_property
    def coders(self) -> dict[str, SparseCoder]:
        coders = building.build_coders(self.config)
        check_range(self.config, {name: coder.d_sae for name, coder in coders.items()})
        return coders

    @cached_property
    def subject(self) -> Subject:
        return building.build_subject(self.config)

    @cached_property
    def attached(self) -> dict[str, Attached]:
        return building.attach(self.config, self.subject, self.coders)

    async def servers(self) -> Mapping[str, VLLMServer]:
        """The vLLM servers of this run, by language model; started once, for all stages."""
        if self._servers is None:
            names = {*self.config.llm_names("explain"), *self.config.llm_names("score")}
            sections = {name: self.config.llms[name] for name in sorted(names)}
            started = serving(sections, self.path, self._starting)
            self._servers = await self._open.enter_async_context(started)
        return self._servers

    def _starting(self, starting: Starting) -> None:
        limit = (self.config.llms[starting.name].serve or ServeSection()).startup_minutes * 60
        self.observe(f"start vLLM for {starting.name}", int(starting.seconds), int(limit))

    def close(self) -> None:
        """Stop the servers."""
        self.runner.run(self._open.aclose())

    @property
    def examples(self) -> Path:
        return self.path / directory.EXAMPLES

    def summary(self) -> Document:
        """The document of ``run``; reads through a connection of its own, from any thread."""
        began = time.monotonic()
        with Results.read(self.results.path) as results:
            document = summarise(
                results,
                run=self.path,
                explainer=self.explainer,
                planned=self.planned,
                seconds=self._seconds(),
                seed=self.config.run.seed,
            )
        ended = time.monotonic()
        self._known, self._known_until = document, ended + QUIET * (ended - began)
        return document

    def describe(self) -> Document:
        """What ``status.json`` says: counts as of now, scores somewhat older in a large run."""
        known = self._known
        if known is None or time.monotonic() > self._known_until:
            known = self.summary()
        with Results.read(self.results.path) as results:
            counts = results.statuses(self.explainer)
        return {
            **known,
            "latents": max(self.planned, sum(counts.values())),
            "explained": counts.get("explained", 0),
            "by_status": counts,
            "seconds": self._seconds(),
            "stage": self.stage,
            "reason": self.reason,
            "seed": self.config.run.seed,
        }

    def enter(self, stage: str) -> None:
        self.stage = stage
        self.log.event("stage", stage=stage)

    def stop(self, reason: str) -> None:
        """Note that the run was stopped before it was done, and why."""
        self.reason = reason
        self.enter("stopped")
        self.log.event("breaker", reason=reason)

    def _seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)


@contextmanager
def session(
    config: RunConfig, observe: Observe, *, explainer: str | None = None, force: bool = False
) -> Iterator[Session]:
    """Open the run directory for writing, and tell of the run in ``status.json`` meanwhile.

    ``explainer`` names explanations from elsewhere; by default it is the configured kind.

    Raises:
        AutointerpError: if the directory cannot be written, is in use, or holds results of
            other settings.
    """
    path = config.run.path
    check_llms(config.llms, config.budget)
    if building.needs_embedder(config):
        check_installed()
    hashes = building.checkpoint_hashes(config)
    with (
        directory.writing(path),
        Results.open(path / directory.RESULTS) as results,
        asyncio.Runner() as runner,
    ):
        results.hold_settings(building.settings(config, hashes, explain=explainer is None))
        write_atomically(path / directory.CONFIG, config.to_yaml())
        record(path, versions=building.versions(), checkpoints=hashes)
        log = directory.RunLog(path)
        name = explainer or config.explainer["kind"]
        opened = Session(config, path, results, log, observe, name, runner, force)
        before = read_status(path)
        opened._before = float((before or {}).get("seconds", 0.0))
        try:
            with StatusWriter(path, opened.describe):
                try:
                    yield opened
                finally:
                    opened._known = None  # the last status must be exact
        except AutointerpError:
            if before is not None and opened.stage == STARTING:  # refused: the run is as it was
                write_atomically(path / STATUS_FILE, json.dumps(before, indent=1) + "\n")
            raise
        finally:
            opened.close()
            log.close()


def record(path: Path, **fields: Any) -> None:
    """Add to what the run directory says that the run was made of."""
    told = {**directory.read_record(path), **fields}
    write_atomically(path / directory.RECORD, json.dumps(told, indent=1) + "\n")
