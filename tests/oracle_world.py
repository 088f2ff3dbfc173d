"""The planted subject as the agent meets it, with an oracle at the other end of a real server."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llm_server import LLMServer
from planted import PlantedLatent, Truth, write_document
from planted_coders import SAELENS, Planted

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.sampling import evidence, labelled_set, prepare
from autointerp.examples.store import ExampleStore
from autointerp.explainers.agent import AgentExplainer, AgentOptions
from autointerp.explainers.agent.llm_roles import LLMRoles
from autointerp.explainers.agent.measuring import Measure
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import Explanation, LatentId
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import LLMs, open_llms
from autointerp.llm.templates import Templates
from autointerp.patterns import matches, parse
from autointerp.sections import LLMSection
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import load_subject
from autointerp.subject.model import Subject
from autointerp.subject.probing import ProbeError, ProbeQueue

CONTEXT = 97
HELD_OUT, WORDS = 200, 24
Answer = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Explained:
    """What became of some latents, and what the server and the clients counted."""

    explanations: list[Explanation]
    served: int
    faults: Mapping[str, int]
    probes: Mapping[str, int]
    spent: Mapping[str, int]


@dataclass
class Checked:
    """Keeps the errors of an answering function, which would look like a broken server."""

    answer: Answer | None
    errors: list[str] = field(default_factory=list)

    def __call__(self, body: dict[str, Any]) -> Any:
        assert self.answer is not None
        try:
            return self.answer(body)
        except Exception:  # noqa: BLE001 – fails the test once the clients are done
            self.errors.append(traceback.format_exc())
            return "an error in the test's language model"


@dataclass(frozen=True)
class OracleWorld:
    """A collected store of the planted subject."""

    truth: Truth
    store: ExampleStore
    subject: Subject
    attached: Attached
    held_out: list[list[str]] = field(repr=False)

    @classmethod
    def of(cls, planted: Planted, directory: Path, tokens: int = 10**9) -> OracleWorld:
        subject = load_subject(str(planted.files.model), device="cpu", context_length=CONTEXT)
        hook = subject.hook_point("transformer.h.0")
        attached = Attached(load_coder(planted.files.coders[SAELENS]), hook, None)
        corpus = CorpusOptions(source=str(planted.corpus), tokens=tokens)
        store = collect(subject, {SAELENS: attached}, corpus, ExampleOptions(), directory)
        latents = [LatentId(SAELENS, latent.index) for latent in planted.truth.latents]
        prepare(store, subject, {SAELENS: (attached.coder, hook)}, latents)
        texts = (write_document(random.Random(f"held out {i}")).split() for i in range(2000))
        return cls(planted.truth, store, subject, attached, [words[:WORDS] for words in texts])

    def explain(
        self,
        latents: Sequence[PlantedLatent],
        answer: Answer | None,
        folder: Path,
        *,
        faults: Mapping[str, float] | None = None,
        measured_as: Mapping[int, int] | None = None,
        **caps: Any,
    ) -> Explained:
        """Explain latents, all in flight. ``measured_as`` has probes measured for others."""
        checked = Checked(answer)
        with LLMServer(answer=checked if answer else None, faults=faults) as server:
            work = self._explain(latents, server, folder, measured_as or {}, caps)
            explanations, probes, spent = asyncio.run(work)
            assert not checked.errors, checked.errors[0]
            served = server.stats.served.total()
            return Explained(explanations, served, dict(server.stats.faults), probes, spent)

    async def _explain(
        self, latents: Sequence[PlantedLatent], server: LLMServer, folder: Path,
        measured_as: Mapping[int, int], caps: Mapping[str, Any],
    ) -> tuple[list[Explanation], Mapping[str, int], Mapping[str, int]]:  # fmt: skip
        section = LLMSection(model="oracle", base_url=server.url, timeout=60.0, concurrency=64)
        journal, backoff = folder / "journal.sqlite", Backoff(base=0)
        coders = {SAELENS: (self.attached.coder, self.attached.hook)}
        async with (
            open_llms({"explainer": section}, None, journal, "run", backoff=backoff) as llms,
            ProbeQueue(self.subject, coders) as queue,
        ):
            probes = Swapped(queue, measured_as)
            explainer = self._explainer(llms, probes, caps)
            made = await asyncio.gather(*(self._one(explainer, latent) for latent in latents))
            return list(made), vars(queue.counts), vars(llms.ledger.total.spent)

    def _explainer(self, llms: LLMs, probes: Measure, caps: Mapping[str, Any]) -> AgentExplainer:
        client, templates = llms.clients["explainer"], Templates()
        return AgentExplainer(
            AgentOptions(roles="llm", **caps),
            probes=probes, refused=ProbeError, encode=self.subject.encode_text,
            judge=PatternJudge(), rivals={},
            roles_factory=lambda shown: LLMRoles(client, templates, shown.latent),
        )  # fmt: skip

    async def _one(self, explainer: AgentExplainer, latent: PlantedLatent) -> Explanation:
        where = LatentId(SAELENS, latent.index)
        shown = evidence(self.store, where)
        return await explainer.explain(shown, labelled_set(self.store, where, "select", shown))

    def agreement(self, latent: PlantedLatent, text: str) -> float:
        """Share of 200 held-out texts in which the text holds at just the tokens of the rule.

        Half of them are active where enough are, and the others hold a trigger where they can.
        """
        pattern = parse(text or "nothing")
        same = [
            matches(pattern, words) == self.truth.fires(latent.index, words)
            for words in self._texts(latent)
        ]
        return float(np.mean(same))

    def _texts(self, latent: PlantedLatent) -> list[list[str]]:
        triggers = set(latent.rule.strengths)
        active = [w for w in self.held_out if any(self.truth.fires(latent.index, w))]
        chosen = active[: HELD_OUT // 2]
        silent = [w for w in self.held_out if not any(self.truth.fires(latent.index, w))]
        silent.sort(key=lambda words: triggers.isdisjoint(words))  # stable
        hard = silent[: (HELD_OUT - len(chosen)) // 2]
        return [*chosen, *hard, *silent[::-1][: HELD_OUT - len(chosen) - len(hard)]]


@dataclass(frozen=True)
class Swapped:
    """Measures texts for other latents than it is asked, where ``instead`` says so."""

    queue: ProbeQueue
    instead: Mapping[int, int]

    async def measure(self, texts: Sequence[str], latent: LatentId) -> Any:
        index = self.instead.get(latent.index, latent.index)
        return await self.queue.measure(texts, LatentId(latent.coder, index))
