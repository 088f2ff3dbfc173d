"""A run from its configuration to its scores: collect, explain, a barrier, score.

Every stage leaves in the run directory all that the next one reads, and does only what is
not there yet; so a run that was killed continues when it is started again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from autointerp.config import RunConfig
from autointerp.examples import harvest
from autointerp.examples.contrast import contrasts
from autointerp.examples.corpus import documents
from autointerp.examples.sampling import SetBuilder, prepare
from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.llm.client import BudgetExhausted
from autointerp.llm.opening import check_llms
from autointerp.llm.vllm_server import Starting, VLLMServer, serving
from autointerp.pipeline import building, directory
from autointerp.pipeline.baselines import build_controls
from autointerp.pipeline.breaker import Breaker, StoppedError
from autointerp.pipeline.cascade import Cascade
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.results import TRUE, Results, Scored
from autointerp.pipeline.selection import check_range, choose
from autointerp.pipeline.status import StatusWriter, read_status, write_atomically
from autointerp.pipeline.summary import Document, summarise
from autointerp.pipeline.tasks import SCORED_STATUSES, ExplainTask, ScoreTask
from autointerp.pipeline.tools import Tools, open_tools
from autointerp.sections import CASCADE, ServeSection
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Subject

Observe = Callable[[str, int, int], None]  # stage, done, of how many
IMPORTED = "imported"
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
    stage: str = "starting"
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
    def attached(self) -> dict[str, harvest.Attached]:
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
    hashes = building.checkpoint_hashes(config)
    with (
        directory.writing(path),
        Results.open(path / directory.RESULTS) as results,
        asyncio.Runner() as runner,
    ):
        results.hold_settings(building.settings(config, hashes, explain=explainer is None))
        write_atomically(path / directory.CONFIG, config.to_yaml())
        _record(path, versions=building.versions(), checkpoints=hashes)
        log = directory.RunLog(path)
        name = explainer or config.explainer["kind"]
        opened = Session(config, path, results, log, observe, name, runner, force)
        opened._before = float((read_status(path) or {}).get("seconds", 0.0))
        try:
            with StatusWriter(path, opened.describe):
                try:
                    yield opened
                finally:
                    opened._known = None  # the last status must be exact
        finally:
            opened.close()
            log.close()


def _record(path: Path, **fields: Any) -> None:
    record = {**directory.read_record(path), **fields}
    write_atomically(path / directory.RECORD, json.dumps(record, indent=1) + "\n")


def collect(s: Session) -> ExampleStore:
    """Collect examples, unless that was done; the store says what was found.

    Raises:
        AutointerpError: for input that cannot work, before any long work.
    """
    s.enter("collect")
    if (s.examples / MARKER).exists() and s.results.has_rows():
        store = ExampleStore.open(s.examples)
    else:
        store = _harvest(s)
    missing = sorted(set(s.config.subject.coders) - set(store.coders))
    if missing:
        raise AutointerpError(
            f"{s.examples} has no examples of {', '.join(missing)}; collect in another run.name"
        )
    s.log.event("collected", tokens=store.token_count, fingerprint=store.fingerprint)
    _record(s.path, corpus=store.fingerprint)
    return store


def _harvest(s: Session) -> ExampleStore:
    attached, config = s.attached, s.config
    options = building.example_options(config)
    if not (s.examples / MARKER).exists():
        next(iter(documents(config.corpus.source, config.corpus.column)), None)  # fails early
        latents = sum(a.coder.d_sae for a in attached.values())
        needed = directory.store_bytes(
            config.corpus.tokens, latents, sum(options.keep), options.window
        )
        directory.check_space(s.path, needed - directory.size(s.examples))
    return harvest.collect(
        s.subject,
        attached,
        building.corpus_options(config),
        options,
        s.examples,
        seed=config.run.seed,
        progress=lambda p: s.observe("collect", p.tokens, p.total),
        force=s.force,
    )


def chosen(s: Session, store: ExampleStore) -> list[LatentId]:
    """The latents that the configuration asks for."""
    check_range(s.config, {name: record.width for name, record in store.coders.items()})
    counts = {name: store.statistics(name).firing_count for name in s.config.latents}
    return choose(s.config, counts)


def get_ready(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Find the hard negatives of latents that have none yet."""
    prepared = contrasts(store)
    if all(latent in prepared for latent in latents):
        return
    s.enter("prepare")
    prepare(
        store,
        s.subject,
        s.attached,
        list(latents),
        progress=lambda done, total: s.observe("prepare", done, total),
    )


def explain(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Explain the latents that have no explanation yet; failed ones are tried again.

    Raises:
        StoppedError: if too many fail, or a budget is spent.
    """
    s.planned = len(latents)
    get_ready(s, store, latents)
    s.enter("explain")
    if s.config.explainer["kind"] == CASCADE:
        _cascade(s, store, latents)
        return
    finished = {e.latent for e in s.results.explanations(s.explainer) if e.status != "failed"}
    todo = [latent for latent in latents if latent not in finished]
    sets = SetBuilder(store, "select", todo)
    breaker = Breaker()

    def done(latent: LatentId, explanation: Explanation) -> None:
        s.results.put_explanation(explanation)
        s.observe("explain", len(latents) - len(todo) + breaker.latents + 1, len(latents))
        breaker.record(failed=explanation.status == "failed")

    async def work() -> None:
        async with _tools(s, "explain") as tools:
            explainer = tools.explainer(s.config.explainer)
            task = ExplainTask(store, sets, explainer, s.explainer, s.log.failure)
            await run_tasks(todo, task, done, concurrency=s.config.engine.concurrency)

    if todo:
        _work(s, work())


def _cascade(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    cascade = Cascade(s.config, store, s.results, s.observe, s.log.failure)

    async def work() -> None:
        async with _tools(s, "explain") as tools:
            s.reason = await cascade.explain(tools, latents)

    if cascade.unfinished(latents):
        _work(s, work())
    if s.reason is not None:
        s.log.event("escalation", reason=s.reason)


def score(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Score the explanations of these latents, and their controls, where that is not done.

    Raises:
        StoppedError: if too many fail, or true explanations do no better than shuffled ones.
    """
    s.planned = len(latents)
    get_ready(s, store, latents)
    s.enter("score")
    wanted = set(latents)
    explanations = [
        e
        for e in s.results.explanations(s.explainer)
        if e.latent in wanted and e.status in SCORED_STATUSES and e.text
    ]
    controls = build_controls(store, s.coders, explanations, s.config.run.seed)
    scored = s.results.score_keys()
    breaker = Breaker()

    async def work() -> None:
        async with _tools(s, "score") as tools:
            task = ScoreTask(store, explanations, tools.scorers(), controls, scored, s.log.failure)
            shown = len(explanations) - len(task.todo)

            def done(_: Explanation, scores: list[Scored]) -> None:
                s.results.put_scores(scores)
                s.observe("score", shown + breaker.latents + 1, len(explanations))
                failed = any(x.score.status == "failed" for x in scores)
                breaker.record(failed=failed, differences=_differences(scores))

            await run_tasks(task.todo, task, done, concurrency=s.config.engine.concurrency)

    _work(s, work())


def _tools(s: Session, stage: Literal["explain", "score"]) -> AbstractAsyncContextManager[Tools]:
    return open_tools(
        s.config,
        s.config.needs(stage),
        lambda: (s.subject, s.attached),
        s.path,
        building.checkpoint_hashes(s.config).get("model", ""),
        s.servers,
    )


def _work(s: Session, work: Coroutine[Any, Any, None]) -> None:
    # What the libraries hold lives as long as the process: walking it at every collection of
    # garbage would take a quarter of the time in which sets of examples are built.
    gc.freeze()
    try:
        s.runner.run(work)
    except BudgetExhausted as reason:
        raise StoppedError(str(reason)) from reason


def _differences(scores: Sequence[Scored]) -> list[float]:
    """True minus shuffled, by scorer, where there are both."""
    values = {
        (x.score.scorer, x.control): x.score.metrics[x.score.headline].value
        for x in scores
        if x.score.status == "scored"
    }
    return [
        value - values[scorer, "shuffled"]
        for (scorer, control), value in values.items()
        if control == TRUE and (scorer, "shuffled") in values
    ]


def take_in(s: Session, explanations: Sequence[Explanation]) -> list[LatentId]:
    """Store explanations from elsewhere; returns their latents.

    Raises:
        AutointerpError: if the run has another text for one of the latents.
    """
    stored = {e.latent: e.text for e in s.results.explanations(s.explainer)}
    for explanation in explanations:
        text = stored.get(explanation.latent, explanation.text)
        if text != explanation.text:
            raise AutointerpError(
                f"{s.path} has scored {text!r} for {explanation.latent}, and the file says "
                f"{explanation.text!r}; choose another run.name"
            )
    for explanation in explanations:
        if explanation.latent not in stored:
            s.results.put_explanation(explanation)
    return sorted({e.latent for e in explanations})
