"""The four roles played by a language model: one request a role and round."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from autointerp.explainers.agent.replies import (
    DesignReply,
    ProposeReply,
    RevisionsReply,
)
from autointerp.explainers.agent.roles import (
    EvidenceTable,
    Gap,
    Hypothesis,
    Misprediction,
    ProbePlan,
    Revision,
    RoleFailure,
)
from autointerp.explainers.agent.showing import missed, values
from autointerp.latents import Cost, LatentId
from autointerp.llm.accounts import plus
from autointerp.llm.client import LLMClient, LLMFailure
from autointerp.llm.templates import Templates, ask
from autointerp.statistics import derived_generator

MOST_ANSWERED = {"propose": 2048, "design": 6144, "revise": 3072, "review": 2048}  # tokens

T = TypeVar("T", bound=BaseModel)


class LLMRoles:
    """Roles of one latent. Requests are accounted as ``agent.propose`` and so on.

    A failed call asks with another seed when it comes again, so that no journal and no server's
    cache gives it the same answer.
    """

    def __init__(
        self, client: LLMClient, templates: Templates, latent: LatentId, seed: int = 0
    ) -> None:
        self.client, self.templates, self.latent, self.seed = client, templates, latent, seed
        self._cost = Cost()
        self._failures = 0

    @property
    def cost(self) -> Cost:
        """What the answers cost when they were asked for, in this run or an earlier one."""
        return self._cost

    async def propose(self, table: EvidenceTable) -> list[Hypothesis]:
        """Ask for the first hypotheses."""
        reply = await self._ask("propose", ProposeReply, table, values(table))
        return [one.hypothesis() for one in reply.hypotheses]

    async def design(
        self, table: EvidenceTable, hypotheses: Sequence[Hypothesis]
    ) -> list[ProbePlan]:
        """Ask for probes; predictions may name the given hypotheses only."""
        ids = [hypothesis.id for hypothesis in hypotheses]
        reply = await self._ask("design", DesignReply, table, values(table), ids)
        return reply.plans()

    async def revise(
        self, table: EvidenceTable, mispredictions: Sequence[Misprediction]
    ) -> list[Revision]:
        """Ask what to do with the doubtful hypotheses; revisions may name the open ones."""
        named, probes = missed(mispredictions)
        shown = {**values(table, probes), "missed": named}
        ids = [standing.hypothesis.id for standing in table.open]
        return (await self._ask("revise", RevisionsReply, table, shown, ids)).all()

    async def review(self, table: EvidenceTable, gaps: Sequence[Gap]) -> list[Revision]:
        """Ask how to close the gaps; revisions may name open and confirmed hypotheses."""
        probes = [probe for gap in gaps for probe in gap.probes]
        shown = {**values(table, probes), "gaps": gaps}
        ids = [standing.hypothesis.id for standing in (*table.open, *table.settled)]
        return (await self._ask("review", RevisionsReply, table, shown, ids)).all()

    async def _ask(
        self,
        role: str,
        reply: type[T],
        table: EvidenceTable,
        shown: Mapping[str, Any],
        ids: Collection[str] = (),
    ) -> T:
        part = (self.latent, role, table.round, self._failures)
        try:
            answer, received = await ask(
                self.client, self.templates, f"agent/{role}", reply, shown,
                context={"hypotheses": ids},
                max_tokens=MOST_ANSWERED[role],
                seed=int(derived_generator(self.seed, *part).integers(2**31)),
                purpose=f"agent.{role}",
            )  # fmt: skip
        except LLMFailure as error:
            self._failures += 1
            self._cost = plus(self._cost, error.usage, error.answers)
            raise RoleFailure(error.reason) from error
        self._cost = plus(self._cost, received.usage, received.answers)
        return answer
