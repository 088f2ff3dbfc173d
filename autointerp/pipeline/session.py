"""One process's work in one run directory: what the stages of a run share, and what it tells."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.latents import LatentId
from autointerp.llm.accounts import Ledger
from autointerp.llm.opening import check_llms, open_llms
from autointerp.llm.vllm_server import Starting, VLLMServer, serving
from autointerp.pipeline import building, directory, ray
from autointerp.pipeline.own_texts import EXPLAINER
from autointerp.pipeline.recorded import earlier_config, with_earlier_scorers
from autointerp.pipeline.refused import as_it_was, without_trace
from autointerp.pipeline.results import Results
from autointerp.pipeline.running import Running
from autointerp.pipeline.selection import check_range
from autointerp.pipeline.shards import Part, Stage
from autointerp.pipeline.stations import Station
from autointerp.pipeline.status import StatusWriter, read_status, write_atomically
from autointerp.pipeline.summary import Document, summarise
from autointerp.pipeline.telemetry import Telemetry
from autointerp.pipeline.tools import OpenModels
from autointerp.pipeline.workshop import Elsewhere, Here, Workshop, check_engine, engine_of
from autointerp.sections import ServeSection
from autointerp.subject.coders import SparseCoder
from autointerp.subject.embedder import Embed, EmbeddingQueue, check_installed
from autointerp.subject.model import Subject

Observe = Callable[[str, int, int], None]  # stage, done, of how many
TOLD_EVERY = 60.0  # seconds between the lines of progress in log.jsonl


@dataclass
class Session:
    """One process's work in one run directory. Make it with :func:`session`.

    ``path`` is what it writes: that of the run, or of the shard that it is a ``part`` of.
    ``retries`` are the stages in which what failed is tried again; ``before`` is the explainer that
    the run was about before, if it has results.
    """

    config: RunConfig
    path: Path
    results: Results
    log: directory.RunLog
    told: Observe
    explainer: str
    runner: asyncio.Runner
    force: bool = False
    stage: str = "starting"
    reason: str | None = None
    planned: int = 0
    part: Part | None = None
    retries: Sequence[Stage] = ()
    before: str | None = None
    open_models: OpenModels = open_llms
    ledger: Ledger = field(default_factory=Ledger)
    _earlier: Document = field(default_factory=dict)  # what the last process left in its status
    _logged: float = field(default_factory=time.monotonic)
    _began: float = field(default_factory=time.monotonic)
    _known: Document | None = None
    _known_at: int = 0  # changes of the rows
    _servers: Mapping[str, VLLMServer] | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    @cached_property
    def telemetry(self) -> Telemetry:
        config = self.part.config(self.config) if self.part else self.config
        return Telemetry(self.ledger, config.budget, self._earlier.get("llm"))

    @cached_property
    def running(self) -> Running:
        """What the rows come to at any moment."""
        self.results.watcher = running = Running(self.results)
        return running

    def observe(self, stage: str, done: int, total: int) -> None:
        """Tell of a stage that so many of so many are done."""
        self.telemetry.note(stage, done, total)
        self.told(stage, done, total)

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

    @cached_property
    def workshop(self) -> Workshop:
        """Where the models are."""
        if self.config.engine.kind == "local":
            return Here(lambda: (self.subject, self.attached))
        starting = partial(self.observe, "start Ray workers")
        station = partial(Station, self.config)
        pool = ray.Pool(engine_of(self.config), station, self.path / "ray.log", starting)
        return Elsewhere(lambda: self._open.enter_context(pool), lambda: self.coders)

    def embedder(self) -> Embed:
        """What turns texts into vectors, wherever that is."""
        workers = self.workshop.workers("embed")
        if not workers:
            return building.build_embedder(self.config)
        queue = EmbeddingQueue(*workers)
        self._open.push_async_callback(queue.aclose)
        return lambda texts: self.runner.run(queue.vectors(texts))

    async def servers(self) -> Mapping[str, VLLMServer]:
        """The vLLM servers of this run, by language model; started once, for all stages."""
        if self._servers is None:
            names = {*self.config.llm_names("explain"), *self.config.llm_names("score")}
            sections = {name: self.config.llms[name] for name in sorted(names)}
            started = serving(sections, self.path, self._starting)
            self._servers = await self._open.enter_async_context(started)
        return self._servers

    def start_no_servers(self) -> None:
        """For a session in which no model is asked."""
        self._servers = {}

    def _starting(self, starting: Starting) -> None:
        limit = (self.config.llms[starting.name].serve or ServeSection()).startup_minutes * 60
        self.observe(f"start vLLM for {starting.name}", int(starting.seconds), int(limit))

    def close(self) -> None:
        """Stop the servers."""
        self.runner.run(self._open.aclose())

    @property
    def examples(self) -> Path:
        run = self.config.run.path
        return self.part.store(run) if self.part else run / directory.EXAMPLES

    @cached_property
    def explained(self) -> Results:
        """Where the explanations of the whole plan are: a shard reads the run's."""
        if self.part is None:
            return self.results
        merged = self.config.run.path / directory.RESULTS
        return self._open.enter_context(Results.frozen(merged))

    def own(self, latents: Sequence[LatentId]) -> Sequence[LatentId]:
        """Of a plan what this process does: all of it, unless it is a shard."""
        return self.part.own(latents) if self.part else latents

    def summary(self) -> Document:
        """The document of ``run``, from all rows; reads through a connection of its own."""
        self._known_at = self.running.changes
        with Results.read(self.results.path) as results:
            document = summarise(
                results,
                run=self.path,
                explainer=self.explainer,
                planned=self.planned,
                seconds=self._seconds(),
                seed=self.config.run.seed,
            )
        document["llm"] = self.telemetry.counts()
        self._known = document
        return document

    def describe(self) -> Document:
        """What ``status.json`` says: the summary of all that there is, or what is known so far,
        which costs the same however large a run is."""
        found = self._known
        if found is None or self._known_at != self.running.changes:
            found = {"run": str(self.path), **self.running.document(self.explainer)}
        return {
            **found,
            "latents": max(self.planned, sum(found["by_status"].values())),
            "seconds": self._seconds(),
            "stage": self.stage,
            "reason": self.reason,
            "seed": self.config.run.seed,
            **self._telemetry(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "written": round(time.time(), 3),
        }

    def _telemetry(self) -> Document:
        told = self.telemetry.describe()
        if time.monotonic() - self._logged >= TOLD_EVERY:
            self._logged = time.monotonic()
            self.log.event("progress", **told)
        return told

    def enter(self, stage: str) -> None:
        self.stage = self.log.stage = stage
        self.log.event("stage")

    def stop(self, reason: str) -> None:
        """Note that the run was stopped before it was done, and why."""
        self.reason = reason
        self.enter("stopped")
        self.log.event("breaker", reason=reason)

    def _seconds(self) -> float:
        before = float(self._earlier.get("seconds", 0.0))
        return round(before + time.monotonic() - self._began, 3)


@contextmanager
def session(
    config: RunConfig,
    observe: Observe,
    *,
    explainer: str | None = None,
    force: bool = False,
    part: Part | None = None,
    retries: Sequence[Stage] = (),
    asks: bool = True,
) -> Iterator[Session]:
    """Open the run directory for writing, and tell of the run in ``status.json`` meanwhile.

    ``explainer`` names explanations from elsewhere; by default it is the configured kind. A
    ``part`` of a run has a directory of its own. ``asks`` says whether models will be asked.

    Raises:
        AutointerpError: if the directory cannot be written, is in use, or holds results of
            other settings.
    """
    path = part.path(config.run.path) if part else config.run.path
    if asks:
        check_llms(config.llms, config.budget)
    if asks and building.needs_embedder(config):
        check_installed()
    check_engine(config)
    hashes = building.checkpoint_hashes(config)
    with (
        directory.writing(path) as made,
        without_trace(path, made),
        Results.open(path / directory.RESULTS) as results,
        asyncio.Runner() as runner,
    ):
        settings, earlier = results.settings(), earlier_config(path, results)
        results.hold_settings(building.settings(config, hashes, explain=explainer is None))
        log = directory.RunLog(path)
        name, about = explainer or config.explainer["kind"], results.noted(EXPLAINER)
        results.note(EXPLAINER, name)
        opened = Session(config, path, results, log, observe, name, runner, force)
        opened.part, opened.retries = part, retries
        opened.before = earlier.explainer["kind"] if earlier else None
        opened._earlier = read_status(path) or {}
        _ = opened.running  # from now on it is told of every row
        try:
            with as_it_was(path, opened.examples, results, settings, about):
                kept = with_earlier_scorers(config, earlier, results)
                write_atomically(path / directory.CONFIG, kept.to_yaml())
                directory.record(path, versions=building.versions(), checkpoints=hashes)
                with StatusWriter(path, opened.describe):
                    yield opened
        finally:
            opened.close()
            log.close()
