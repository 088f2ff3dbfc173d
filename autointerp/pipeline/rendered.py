"""The prompts of one latent, rendered by the very code that would send them, and not sent.

Explainers and judges are built with a :class:`Recorder` where they would have a language model.
It keeps each request and fails it, so what follows an answer (a revision, say) is not rendered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.examples.prefixes import Prefixes
from autointerp.examples.sampling import SetBuilder
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.llm.client import LLMFailure, Reply, Request
from autointerp.llm.templates import Templates
from autointerp.pipeline.building import attach, build_coders, build_subject
from autointerp.pipeline.directory import EXAMPLES, RESULTS
from autointerp.pipeline.others import open_others
from autointerp.pipeline.results import Results
from autointerp.pipeline.tasks import Explainer, ExplainTask, NamedScorer, ScoreTask
from autointerp.pipeline.tools import Tools, open_steering
from autointerp.pipeline.workshop import Here
from autointerp.registry import Options
from autointerp.subject.model import Subject

NOT_ASKED = "prompts are rendered only; no model is asked"
PLACEHOLDER = "(the explanation)"


@dataclass
class Recorder:
    """Stands for a language model: keeps every prompt, each once, and answers none."""

    model: str = "none"
    requests: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Reply:
        """Raises LLMFailure, always."""
        if all(request.messages != known.messages for known in self.requests):
            self.requests.append(request)
        raise LLMFailure(NOT_ASKED)

    def take(self) -> tuple[Request, ...]:
        """The requests since the last call."""
        taken = tuple(self.requests)
        self.requests.clear()
        return taken


@dataclass(frozen=True)
class Rendered:
    """What is asked about a latent: first by its explainers, then by the judge of each scorer."""

    explainer: tuple[Request, ...]
    scorers: Mapping[str, tuple[Request, ...]]


async def render(
    store: ExampleStore,
    latent: LatentId,
    explainers: Sequence[Explainer],
    scorers: Sequence[NamedScorer],
    recorder: Recorder,
    explanation: Explanation | None = None,
    outputs: Sequence[Explanation] = (),
) -> Rendered:
    """Render the prompts of ``latent``; explainers (a cascade has several) and judges must ask
    ``recorder``.

    Judges are asked about ``explanation``; without one, a placeholder stands in its place. Those
    that read what latents cause are asked about the latent's one of ``outputs``, the run's. What
    needs no language model is not run and has no prompts.

    Raises:
        AutointerpError: if the latent is not in the store.
    """
    for explainer in filter(_asks, explainers):
        select = SetBuilder(store, "select", [latent])
        await ExplainTask(store, select, explainer, "", _fail)(latent)
    asked = recorder.take()
    judged = explanation or Explanation(latent, PLACEHOLDER, "none")
    effect = Explanation(latent, PLACEHOLDER, "none", kind="output")
    effect = next((e for e in outputs if e.latent == latent), effect)
    prompts = {}
    for scorer in scorers:
        if _asks(scorer.scorer) or _asks(getattr(scorer.scorer, "judge", None)):
            about = effect if scorer.scorer.reads == "output" else judged
            task = ScoreTask(store, [about, *outputs], [scorer], {}, set(), _fail)
            await task(about)
        prompts[scorer.name] = recorder.take()
    return Rendered(asked, prompts)


def render_run(config: RunConfig, latent: LatentId) -> Rendered:
    """The prompts of a latent of a run that has collected its examples.

    A latent that the run has explained is judged by that explanation.

    Raises:
        AutointerpError: if the run has no examples, or not of this latent.
    """
    store = ExampleStore.open(config.run.path / EXAMPLES)
    recorder = Recorder()
    clients = dict.fromkeys(config.llms, recorder)
    templates = Templates(config.prompts)
    needs = config.needs("explain") | config.needs("score")
    here = Here(lambda: _load(config))
    subject = here.subject if {"encode", "steering"} & needs else None
    explained = _explained(config, config.explainer["kind"])
    outputs = _explained(config, config.effects["kind"])
    by_latent = {e.latent: e for e in explained}
    prefixes = Prefixes(store)
    tools = Tools(config, clients, templates, subject=subject, prefixes=prefixes)
    explanation = next((e for e in explained if e.latent == latent), None)
    sections = [*config.tiers, *([config.effects] if config.writes_outputs else [])]

    async def rendered() -> Rendered:
        async with AsyncExitStack() as stack:
            found = open_others(config, here, store, lambda: build_coders(config), by_latent)
            opened = replace(tools, others=await stack.enter_async_context(found))
            if "steering" in needs:
                steering = open_steering(config, here, prefixes)
                opened = replace(opened, steering=await stack.enter_async_context(steering))
            asking = [opened.explainer(section) for section in sections]
            scorers = opened.scorers()
            return await render(store, latent, asking, scorers, recorder, explanation, outputs)

    return asyncio.run(rendered())


def _load(config: RunConfig) -> tuple[Subject, Mapping[str, Attached]]:
    subject = build_subject(config)
    return subject, attach(config, subject, build_coders(config))


def _explained(config: RunConfig, explainer: str) -> list[Explanation]:
    path = config.run.path / RESULTS
    if not path.exists():
        return []
    with Results.read(path) as results:
        found = results.explanations(explainer)
    return [e for e in found if e.status == "explained"]


def _asks(kind: object) -> bool:
    """Whether its options say that it needs a language model."""
    options = getattr(kind, "options", None)
    return isinstance(options, Options) and options.asks


def _fail(what: str, latent: LatentId, error: BaseException) -> None:
    raise AutointerpError(f"cannot render the prompts of {latent} ({what}): {error}") from error
