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
from autointerp.examples.contrast import contrasts
from autointerp.examples.corpus import documents
from autointerp.examples.sampling import SetBuilder, prepare, spare_collector
from autointerp.examples.semantic import prepare_semantic
from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.llm.client import BudgetExhausted
from autointerp.pipeline import building, directory
from autointerp.pipeline.baselines import build_controls
from autointerp.pipeline.breaker import Breaker, StoppedError
from autointerp.pipeline.cascade import Cascade
from autointerp.pipeline.figures import note_effects
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.others import OtherLatents
from autointerp.pipeline.rows import TRUE, Scored, is_scored
from autointerp.pipeline.selection import check_range, choose
from autointerp.pipeline.session import Session, record
from autointerp.pipeline.tasks import ExplainTask, ScoreTask
from autointerp.pipeline.tools import Tools, open_tools
from autointerp.sections import CASCADE
from autointerp.subject.embedder import Embedder


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
    record(s.path, corpus=store.fingerprint)
    return store


def _harvest(s: Session) -> ExampleStore:
    config, options = s.config, building.example_options(s.config)
    fresh = not (s.examples / MARKER).exists()
    if fresh:  # a corpus that cannot be read is told before a large model is loaded
        next(iter(documents(config.corpus.source, config.corpus.column)), None)
    attached = s.attached
    if fresh:
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
    if s.config.examples.semantic:
        identity = building.embedder_identity(s.config)
        progress = partial(s.observe, "embed")
        prepare_semantic(store, lambda: _embedder(s), identity, latents, progress)
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


def _embedder(s: Session) -> Embedder:
    s.enter("embed")
    return building.build_embedder(s.config)


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
    else:
        _explain(s, store, latents, s.config.explainer)
    if s.config.writes_outputs:
        s.enter("explain effects")
        _explain(s, store, latents, s.config.effects)


def _explain(
    s: Session, store: ExampleStore, latents: Sequence[LatentId], section: Mapping[str, Any]
) -> None:
    """Explain with the explainer of a resolved section."""
    stage, name = s.stage, str(section["kind"])
    finished = {e.latent for e in s.results.explanations(name) if e.status != "failed"}
    todo = [latent for latent in latents if latent not in finished]
    sets = SetBuilder(store, "select", todo)
    breaker = Breaker()

    def done(latent: LatentId, explanation: Explanation) -> None:
        s.results.put_explanation(explanation)
        s.observe(stage, len(latents) - len(todo) + breaker.latents + 1, len(latents))
        breaker.record(failed=explanation.status == "failed")

    async def work() -> None:
        async with _tools(s, "explain", store) as tools:
            task = ExplainTask(store, sets, tools.explainer(section), name, s.log.failure)
            await run_tasks(todo, task, done, concurrency=s.config.engine.concurrency)

    if todo:
        _work(s, work())


def _cascade(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    cascade = Cascade(s.config, store, s.results, s.observe, s.log.failure)

    async def work() -> None:
        async with _tools(s, "explain", store) as tools:
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
        e for e in s.results.explanations(s.explainer) if e.latent in wanted and is_scored(e)
    ]
    controls = {"input": build_controls(store, s.coders, explanations, s.config.run.seed)}
    others = OtherLatents(store, lambda: s.coders, explanations, s.config.run.seed)
    if s.config.writes_outputs:
        effects = s.results.explanations(s.config.effects["kind"])
        outputs = [e for e in effects if e.latent in wanted and is_scored(e)]
        controls["output"] = build_controls(store, s.coders, outputs, s.config.run.seed)
        explanations += outputs
    scored = s.results.score_keys()
    breaker = Breaker()

    async def work() -> None:
        async with _tools(s, "score", store) as tools:
            scorers = replace(tools, others=others).scorers()
            task = ScoreTask(store, explanations, scorers, controls, scored, s.log.failure)
            shown = len(explanations) - len(task.todo)

            def done(_: Explanation, scores: list[Scored]) -> None:
                s.results.put_scores(scores)
                s.observe("score", shown + breaker.latents + 1, len(explanations))
                failed = any(x.score.status == "failed" for x in scores)
                breaker.record(failed=failed, differences=_differences(scores))

            await run_tasks(task.todo, task, done, concurrency=s.config.engine.concurrency)

    _work(s, work())
    note_effects(s.results, s.config.run.seed)


def _tools(
    s: Session, stage: Literal["explain", "score"], store: ExampleStore
) -> AbstractAsyncContextManager[Tools]:
    return open_tools(
        s.config,
        s.config.needs(stage),
        lambda: (s.subject, s.attached),
        s.path,
        building.checkpoint_hashes(s.config).get("model", ""),
        s.servers,
        store,
    )


def _work(s: Session, work: Coroutine[Any, Any, None]) -> None:
    spare_collector()
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
