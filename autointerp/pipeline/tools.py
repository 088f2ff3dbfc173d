"""What explainers and judges work with beside their options, opened for one stage of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.explainers.agent.llm_roles import LLMRoles
from autointerp.judges import Judge
from autointerp.kinds import PATTERN, build_options, without_judge
from autointerp.latents import Evidence
from autointerp.llm.client import LLMClient
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import open_llms
from autointerp.llm.templates import Templates
from autointerp.llm.vllm_server import VLLMServer
from autointerp.pipeline.tasks import Explainer, NamedScorer
from autointerp.registry import ASKING, Options, explainers, judges, scorers
from autointerp.subject.model import Subject
from autointerp.subject.probing import ProbeError, ProbeQueue

RIVALS = ("single_pass", "pattern")  # whose texts an LLM agent's must beat on SELECT

_PATTERN: Mapping[str, Any] = {"kind": PATTERN}

Servers = Callable[[], Awaitable[Mapping[str, VLLMServer]]]
Runtime = Callable[[], tuple[Subject, Mapping[str, Attached]]]


@dataclass(frozen=True, eq=False)
class Tools:
    """Builds explainers, scorers and judges, giving each what its options say it needs."""

    config: RunConfig
    clients: Mapping[str, LLMClient]
    templates: Templates
    probes: ProbeQueue | None = None
    subject: Subject | None = None

    def explainer(self, section: Mapping[str, Any]) -> Explainer:
        """The explainer of a resolved section such as ``config.explainer``."""
        options = build_options(explainers, without_judge(section), "explainer")
        implementation = explainers.get(section["kind"]).implementation
        supplied = self._supply(options, section.get("judge"))
        explainer: Explainer = implementation(options, seed=self.config.run.seed, **supplied)
        return explainer

    def scorers(self) -> list[NamedScorer]:
        """The run's scorers, each with the judge that answers it."""
        built = []
        for i, section in enumerate(self.config.scorers):
            options = build_options(scorers, without_judge(section), f"scorers.{i}")
            built.append(self._scorer(section, options))
        return built

    def _scorer(self, section: Mapping[str, Any], options: Options) -> NamedScorer:
        kind, judge = section["kind"], section.get("judge")
        supplied = self._supply(options, judge)
        scorer = scorers.get(kind).implementation(options, seed=self.config.run.seed, **supplied)
        return NamedScorer(kind, scorer, judge["kind"] if judge else "")

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
            "encode": lambda: self.subject and self.subject.encode_text,
            "roles_factory": lambda: partial(self._roles, self._client(options)),
            "rivals": lambda: self._rivals(judge),
        }
        return {name: makers[name]() for name in sorted(options.needs())}

    def _client(self, options: Options) -> LLMClient:
        return self.clients[getattr(options, "llm")]  # noqa: B009 – only such options need one

    def _roles(self, client: LLMClient, evidence: Evidence) -> LLMRoles:
        return LLMRoles(client, self.templates, evidence.latent, self.config.run.seed)

    def _rivals(self, judge: Mapping[str, Any] | None) -> dict[str, Explainer]:
        return {kind: self.explainer({"kind": kind, "judge": judge}) for kind in RIVALS}


@asynccontextmanager
async def open_tools(
    config: RunConfig,
    needs: frozenset[str],
    runtime: Runtime,
    directory: Path,
    identity: str,
    servers: Servers,
) -> AsyncIterator[Tools]:
    """Open what is needed of the language models and the subject, for one stage.

    ``runtime`` gives the subject and its coders; it is called only if texts are to be measured.
    ``directory`` is the run's: measurements are kept there. ``identity`` is of the model's files.
    ``servers`` starts the run's own vLLM servers, if it has any.

    Raises:
        AutointerpError: if an endpoint, a key or a price is missing.
    """
    async with AsyncExitStack() as stack:
        clients: Mapping[str, LLMClient] = {}
        if needs & ASKING:
            llms = open_llms(
                config.llms,
                config.budget,
                config.journal,
                run=str(directory.resolve()),
                endpoints=await servers(),
                backoff=Backoff(seed=config.run.seed),
                prompts=config.prompts,
            )
            clients = (await stack.enter_async_context(llms)).clients
        templates = Templates(config.prompts)
        if "probes" not in needs:
            yield Tools(config, clients, templates)
            return
        subject, attached = runtime()
        coders = {name: (a.coder, a.hook) for name, a in attached.items()}
        cache = directory / "probes.sqlite"
        probes = ProbeQueue(subject, coders, cache, identity=identity)
        await stack.enter_async_context(probes)
        yield Tools(config, clients, templates, probes, subject)
