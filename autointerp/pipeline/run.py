"""A run from its configuration to its scores: collect, explain, a barrier, score.

Every stage leaves in the run directory all that the next one reads, and does only what is
not there yet; so a run that was killed continues when it is started again.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from autointerp.examples import harvest
from autointerp.examples.corpus import documents
from autointerp.examples.sampling import spare_collector
from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline import building, directory
from autointerp.pipeline.baselines import build_controls
from autointerp.pipeline.breaker import Breaker, StoppedError, differences
from autointerp.pipeline.cascade import Cascade
from autointerp.pipeline.controls import Control
from autointerp.pipeline.draining import run_drained
from autointerp.pipeline.explaining import explain_all
from autointerp.pipeline.figures import note_effects
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.others import open_others
from autointerp.pipeline.plan import Done, Explained, Texts, unexplained
from autointerp.pipeline.preparing import get_ready
from autointerp.pipeline.retries import Retry, finish_retry, retry_of
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.selection import check_range, choose
from autointerp.pipeline.session import Session
from autointerp.pipeline.shards import STAGES, check_merged
from autointerp.pipeline.spreading import collect_by_workers
from autointerp.pipeline.tasks import ScoreTask
from autointerp.pipeline.tools import Tools, open_tools
from autointerp.sections import CASCADE


def collect(s: Session) -> ExampleStore:
    """Collect examples, unless that was done; the store says what was found.

    Raises:
        AutointerpError: for input that cannot work, before any long work.
    """
    _check_shards(s)
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
    directory.record(s.path, corpus=store.fingerprint)
    return store


def _check_shards(s: Session) -> None:
    """Refuse a run whose shards are not merged, and shards of latents without a complete store."""
    run = s.config.run.path
    if s.part is None:
        check_merged(run, STAGES, "not all of this run is in its directory")
    elif s.part.stage != "collect" and not (s.examples / MARKER).exists():
        raise AutointerpError(
            f"{s.part} needs the examples of the whole run, and {s.examples} has none; collect, or"
            f" collect in shards and then `autointerp merge {run}`"
        )


def _harvest(s: Session) -> ExampleStore:
    config, options = s.config, building.example_options(s.config)
    if not (s.examples / MARKER).exists():
        # A corpus that cannot be read is told before a large model is loaded.
        next(iter(documents(config.corpus.source, config.corpus.column)), None)
        latents = sum(coder.d_sae for coder in s.coders.values())
        needed = directory.store_bytes(
            config.corpus.tokens, latents, sum(options.keep), options.window
        )
        directory.check_space(s.path, needed - directory.size(s.examples))
    shard = s.part.shard if s.part and s.part.stage == "collect" else None
    if s.config.engine.kind == "ray":
        told = partial(s.observe, "collect", total=config.corpus.tokens)
        by_workers = collect_by_workers(s.workshop, s.path, s.examples, shard, s.force, told)
        return s.runner.run(by_workers)
    return harvest.collect(
        s.subject,
        s.attached,
        building.corpus_options(config),
        options,
        s.examples,
        seed=config.run.seed,
        progress=lambda p: s.observe("collect", p.tokens, p.total),
        force=s.force,
        shard=shard,
    )


def chosen(s: Session, store: ExampleStore) -> list[LatentId]:
    """The latents that the configuration asks for."""
    check_range(s.config, {name: record.width for name, record in store.coders.items()})
    counts = {name: store.statistics(name).firing_count for name in s.config.latents}
    return choose(s.config, counts)


def explain(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Explain the latents that have no explanation yet; of a shard, those that are its own.

    Those that failed are tried again only where ``s.retries`` says so.

    Raises:
        StoppedError: if too many fail, or a budget is spent.
    """
    mine = s.own(latents)
    s.planned = len(mine)
    get_ready(s, store, latents)
    s.enter("explain")
    retry = retry_of(s.results, "explain", s.retries)
    if s.config.explainer["kind"] == CASCADE:
        _cascade(s, store, mine, retry)
    else:
        _explain(s, store, mine, s.config.explainer, retry)
    if s.config.writes_outputs:
        s.enter("explain effects")
        _explain(s, store, mine, s.config.effects, retry)
    finish_retry(s.results, "explain")


def _explain(
    s: Session,
    store: ExampleStore,
    latents: Sequence[LatentId],
    section: Mapping[str, Any],
    retry: Retry,
) -> None:
    """Explain with the explainer of a resolved section."""
    observe = partial(s.observe, s.stage)

    async def work() -> None:
        async with _tools(s, "explain", store) as tools:
            await explain_all(
                tools, section, latents, store=store, results=s.results, observe=observe,
                report=s.log.failure, retry=retry,
            )  # fmt: skip

    lacking = unexplained(s.results, latents, section["kind"], retry)
    if next(lacking, None) is not None:
        _work(s, work())


def _cascade(s: Session, store: ExampleStore, latents: Sequence[LatentId], retry: Retry) -> None:
    cascade = Cascade(s.config, store, s.results, s.observe, s.log.failure, retry)

    async def work() -> None:
        async with _tools(s, "explain", store) as tools:
            s.reason = await cascade.explain(tools, latents)

    if cascade.unfinished(latents):
        _work(s, work())
    if s.reason is not None:
        s.log.event("escalation", reason=s.reason)


def score(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Score the explanations of these latents, and their controls, where that is not done.

    A shard scores those that are its own, with the controls that all of them together give. Scores
    that failed are tried again only where ``s.retries`` says so.

    Raises:
        StoppedError: if too many fail, or true explanations do no better than shuffled ones.
    """
    mine = s.own(latents)
    s.planned = len(mine)
    get_ready(s, store, latents)
    s.enter("score")
    retry = retry_of(s.results, "score", s.retries)
    explained = Explained(s.explained, latents, s.explainer)
    parts = {"input": explained}
    if s.config.writes_outputs:
        parts["output"] = Explained(s.explained, latents, s.config.effects["kind"])
    controls = _controls(s, store, parts)
    texts = Texts([*parts.values()])
    own = Texts([replace(part, latents=mine) for part in texts.parts])
    breaker, known = Breaker(), Done(s.results, retry)

    async def work() -> None:
        opened = open_others(s.config, s.workshop, store, lambda: s.coders, explained)
        async with _tools(s, "score", store) as tools, opened as others:
            scorers = replace(tools, others=others).scorers()
            task = ScoreTask(
                store, texts, scorers, controls, known, s.log.failure, own=own, retry=retry,
                together=s.config.in_waves("score"),
            )  # fmt: skip
            total, left = len(own), task.left()

            def done(_: Explanation, scores: list[Scored]) -> None:
                s.results.put_scores(scores)
                s.observe("score", total - left + breaker.latents + 1, total)
                failed = any(x.score.status == "failed" for x in scores)
                breaker.record(failed=failed, differences=differences(scores))

            most = s.config.in_flight("score")
            await run_tasks(task.todo, task, done, concurrency=most, room=tools.room)

    _work(s, work())
    finish_retry(s.results, "score")
    note_effects(s.results, s.explainer, s.config.run.seed)


def _controls(
    s: Session, store: ExampleStore, parts: Mapping[str, Explained]
) -> dict[str, dict[LatentId, list[Control]]]:
    """By the kind of what is explained. A rerun has none: those of the run stand for both."""
    if s.config.run.rerun:
        return {}
    seed = s.config.run.seed
    return {kind: build_controls(store, s.coders, part, seed) for kind, part in parts.items()}


def _tools(
    s: Session, stage: Literal["explain", "score"], store: ExampleStore
) -> AbstractAsyncContextManager[Tools]:
    return open_tools(
        s.part.config(s.config) if s.part else s.config,
        s.config.needs(stage),
        s.workshop,
        s.path,
        building.checkpoint_hashes(s.config).get("model", ""),
        s.servers,
        store,
        s.ledger,
        s.open_models,
    )


def _work(s: Session, work: Coroutine[Any, Any, None]) -> None:
    spare_collector()
    try:
        run_drained(s.runner, work, s.ledger.gate, s.config.engine.drain_seconds)
    except BudgetExhausted as reason:
        raise StoppedError(str(reason)) from reason
