"""What explainers and judges work with beside their options, opened for one stage of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.examples.prefixes import Prefixes
from autointerp.examples.store import ExampleStore
from autointerp.explainers.agent.llm_roles import LLMRoles
from autointerp.judges import Judge
from autointerp.kinds import PATTERN, build_options, without_judge
from autointerp.latents import Evidence
from autointerp.llm.accounts import Ledger
from autointerp.llm.client import LLMClient
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import LLMs, open_llms
from autointerp.llm.templates import Templates
from autointerp.llm.vllm_server import VLLMServer
from autointerp.pipeline.repeats import PER_RUN, asking_again
from autointerp.pipeline.tasks import Explainer, NamedScorer
from autointerp.pipeline.text_models import TextModels
from autointerp.pipeline.workshop import Workshop
from autointerp.registry import ASKING, Options, explainers, judges, scorers
from autointerp.scorers import Others
from autointerp.subject.outline import Outline
from autointerp.subject.probing import ProbeError, ProbeQueue
from autointerp.subject.steering import Steering

STEERED_ROWS = 256  # whose states tell random directions the covariance at a hook
RIVALS = ("single_pass", "pattern")  # whose texts an LLM agent's must beat on SELECT

_PATTERN: Mapping[str, Any] = {"kind": PATTERN}

Servers = Callable[[], Awaitable[Mapping[str, VLLMServer]]]
OpenModels = Callable[..., AbstractAsyncContextManager[LLMs]]  # as ``open_llms``


@dataclass(frozen=True, eq=False)
class Tools:
    """Builds explainers, scorers and judges, giving each what its options say it needs."""

    config: RunConfig
    clients: Mapping[str, LLMClient]
    templates: Templates
    probes: ProbeQueue | None = None
    subject: Outline | None = None
    models: TextModels | None = None
    others: Others | None = None  # the run's explained latents, where explanations are scored
    steering: Steering | None = None
    prefixes: Prefixes | None = None
    room: Callable[[], Awaitable[None]] | None = None  # to be awaited before a latent is begun

    @property
    def _explaining(self) -> int:
        """The seed of explainers: another in a rerun, where scorers still judge the same items."""
        return self.config.run.seed + self.config.run.rerun

    def explainer(self, section: Mapping[str, Any]) -> Explainer:
        """The explainer of a resolved section such as ``config.explainer``."""
        options = build_options(explainers, without_judge(section), "explainer")
        implementation = explainers.get(section["kind"]).implementation
        supplied = self._supply(options, section.get("judge"))
        explainer: Explainer = implementation(options, seed=self._explaining, **supplied)
        return explainer

    @cached_property
    def effects(self) -> Explainer:
        """The explainer of what latents cause; one for all, so that strengths are found once."""
        return self.explainer(self.config.effects)

    def scorers(self) -> list[NamedScorer]:
        """The run's scorers, each with the judge that answers it."""
        built = []
        for i, section in enumerate(self.config.scorers):
            options = build_options(scorers, without_judge(section), f"scorers.{i}")
            built.append(self._scorer(section, options))
        return built

    def _scorer(self, section: Mapping[str, Any], options: Options) -> NamedScorer:
        kind, judge = section["kind"], section.get("judge")
        implementation, seed = scorers.get(kind).implementation, self.config.run.seed
        scorer = implementation(options, seed=seed, **self._supply(options, judge))
        repeats = (judge or {}).get("repeats", 0)
        if not judge or not repeats:
            return NamedScorer(kind, scorer, judge["kind"] if judge else "")
        other = replace(self, clients=asking_again(self.clients))
        again = implementation(options, seed=seed, **other._supply(options, judge))
        return NamedScorer(kind, scorer, judge["kind"], again, repeats)

    def judge(self, section: Mapping[str, Any]) -> Judge:
        options = build_options(judges, section, "judge")
        implementation = judges.get(section["kind"]).implementation
        supplied = self._supply(options, None)
        judge: Judge = implementation(options, seed=self.config.run.seed, **supplied)
        return judge

    def _supply(self, options: Options, judge: Mapping[str, Any] | None) -> dict[str, Any]:
        """What the options need, by the names of the implementation's keyword arguments."""
        makers: dict[str, Callable[[], Any]] = {
            "client": lambda: self._client(options),
            "templates": lambda: self.templates,
            "judge": lambda: self.judge(judge or _PATTERN),
            "probes": lambda: self.probes,
            "refused": lambda: ProbeError,
            "encode": lambda: self._encode,
            "roles_factory": lambda: partial(self._roles, self._client(options)),
            "rivals": lambda: self._rivals(judge),
            "others": lambda: self.others,
            "steering": lambda: self.steering,
            "prefixes": lambda: self.prefixes,
            "effects": lambda: self.effects,
            "embedder": lambda: self.models and self.models.embedder,
            "base_lm": lambda: self.models and self.models.base_lm(_name_of(options)),
        }
        return {name: makers[name]() for name in sorted(options.needs())}

    def _encode(self, text: str) -> list[int]:
        if self.subject is None:
            raise RuntimeError("texts are encoded only where the subject is loaded")
        return self.subject.encode_text(text)

    def _client(self, options: Options) -> LLMClient:
        return self.clients[getattr(options, "llm")]  # noqa: B009 – only such options need one

    def _roles(self, client: LLMClient, evidence: Evidence) -> LLMRoles:
        return LLMRoles(client, self.templates, evidence.latent, self._explaining)

    def _rivals(self, judge: Mapping[str, Any] | None) -> dict[str, Explainer]:
        return {kind: self.explainer({"kind": kind, "judge": judge}) for kind in RIVALS}


def _name_of(options: Options) -> str | None:
    name: str | None = getattr(options, "model")  # noqa: B009 – only such options need one
    return name


def open_steering(config: RunConfig, workshop: Workshop, prefixes: Prefixes) -> Steering:
    """Steering for a run; it is to be entered."""
    seed, rows = config.run.seed, prefixes.rows(STEERED_ROWS)
    workers = workshop.workers("steer", seed, rows)
    return Steering(workshop.subject, workshop.attached, seed=seed, texts=rows, workers=workers)


def _open_probes(workshop: Workshop, directory: Path, identity: str) -> ProbeQueue:
    coders = {name: (a.coder, a.hook) for name, a in workshop.attached.items()}
    cache, workers = directory / "probes.sqlite", workshop.workers("probe")
    return ProbeQueue(workshop.subject, coders, cache, identity=identity, workers=workers)


@asynccontextmanager
async def open_tools(
    config: RunConfig,
    needs: frozenset[str],
    workshop: Workshop,
    directory: Path,
    identity: str,
    servers: Servers,
    store: ExampleStore,
    ledger: Ledger | None = None,
    open_models: OpenModels = open_llms,
) -> AsyncIterator[Tools]:
    """Open what is needed of the language models and the subject, for one stage.

    ``workshop`` has the subject and its coders; they are used only if texts are to be measured.
    ``directory`` is the run's: measurements are kept there. ``identity`` is of the model's files.
    ``servers`` starts the run's own vLLM servers, if it has any. Steering takes its prompts from
    ``store``. ``ledger`` takes the accounts; ``open_models`` opens the language models.

    Raises:
        AutointerpError: if an endpoint, a key or a price is missing.
    """
    async with AsyncExitStack() as stack:
        clients: Mapping[str, LLMClient] = {}
        room: Callable[[], Awaitable[None]] | None = None
        if needs & ASKING:
            llms = open_models(
                config.llms,
                config.budget,
                config.journal,
                run=str(directory.resolve()),
                endpoints=await servers(),
                backoff=Backoff(seed=config.run.seed),
                prompts=config.prompts,
                ledger=ledger,
            )
            opened = await stack.enter_async_context(llms)
            clients, room = opened.clients, opened.room
            if config.run.rerun:
                clients = asking_again(clients, PER_RUN * config.run.rerun)
        templates = Templates(config.prompts)
        models = TextModels(config, workshop)
        stack.push_async_callback(models.aclose)
        tools = Tools(
            config, clients, templates, models=models, prefixes=Prefixes(store), room=room
        )
        if needs & {"probes", "steering"}:
            tools = replace(tools, subject=workshop.subject)
        if "probes" in needs:
            probes = _open_probes(workshop, directory, identity)
            tools = replace(tools, probes=await stack.enter_async_context(probes))
        if "steering" in needs:
            steering = open_steering(config, workshop, Prefixes(store))
            tools = replace(tools, steering=await stack.enter_async_context(steering))
        yield tools
