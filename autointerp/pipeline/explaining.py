"""Explains latents with one explainer, as a run does and every tier of a cascade."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autointerp.examples.sampling import SetBuilder
from autointerp.examples.store import ExampleStore
from autointerp.latents import Explanation, LatentId
from autointerp.pipeline.breaker import Breaker
from autointerp.pipeline.local import run_tasks
from autointerp.pipeline.plan import unexplained
from autointerp.pipeline.results import Results
from autointerp.pipeline.retries import Retry
from autointerp.pipeline.tasks import ExplainTask, Report
from autointerp.pipeline.tools import Tools


async def explain_all(
    tools: Tools,
    section: Mapping[str, Any],
    latents: Sequence[LatentId],
    *,
    store: ExampleStore,
    results: Results,
    observe: Callable[[int, int], None],
    report: Report,
    retry: Retry,
) -> None:
    """Explain the latents that have no explanation of this explainer yet, or a failed one that is
    tried again; ``section`` is the explainer's, resolved. ``observe`` is told how many are done,
    of how many.

    Raises:
        BudgetExhausted: if a budget is spent.
        StoppedError: if too many fail.
    """
    name = str(section["kind"])
    left = sum(1 for _ in unexplained(results, latents, name, retry))
    if not left:
        return
    sets, breaker = SetBuilder(store, "select"), Breaker()
    task = ExplainTask(store, sets, tools.explainer(section), name, report, retry)

    def done(_: LatentId, explanation: Explanation) -> None:
        results.put_explanation(explanation)
        observe(len(latents) - left + breaker.latents + 1, len(latents))
        breaker.record(failed=explanation.status == "failed")

    todo = sets.ahead(unexplained(results, latents, name, retry), lambda latent: latent)
    most = tools.config.in_flight("explain")
    await run_tasks(todo, task, done, concurrency=most, room=tools.room)
