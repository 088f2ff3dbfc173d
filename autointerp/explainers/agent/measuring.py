"""Probes are measured on the subject; what cannot be measured is no evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.agent.desk import Desk
from autointerp.explainers.agent.ledger import Ledger
from autointerp.explainers.agent.roles import MeasuredProbe, ProbePlan
from autointerp.latents import LatentId


class Measured(Protocol):
    """One text as the subject read it."""

    @property
    def tokens(self) -> Sequence[str]: ...

    @property
    def activations(self) -> NDArray[np.float32]:
        """[tokens], in the coder's units."""
        ...


class Measure(Protocol):
    """Runs texts through the subject; a queue may batch over latents."""

    async def measure(self, texts: Sequence[str], latent: LatentId) -> Sequence[Measured]:
        """One result a text, in order."""
        ...


class Bench:
    """Measures one latent's probes. ``refused`` is what is raised for an unmeasurable text."""

    def __init__(self, probes: Measure, refused: type[Exception], ledger: Ledger, desk: Desk):
        self.probes, self.refused = probes, refused
        self.ledger, self.desk = ledger, desk
        self.measured = 0  # texts asked for

    async def measure(self, plans: Sequence[ProbePlan]) -> list[MeasuredProbe]:
        """Measure as many plans as the cap allows, unedited members of pairs first."""
        wanted: dict[str, ProbePlan] = {}
        for plan in plans:
            if plan.base is not None and plan.base not in self.ledger.probes:
                wanted.setdefault(plan.base, ProbePlan(plan.base, "positive", plan.family, {}))
            wanted[plan.text] = plan
        chosen = list(wanted.values())[: self.desk.caps.probes - self.measured]
        self.measured += len(chosen)
        for plan in chosen:  # on record before anything is measured
            self.desk.log("probe", text=plan.text, kind=plan.kind, family=plan.family,
                          predictions=dict(plan.predictions))  # fmt: skip
        found = await self.desk.in_time(asyncio.gather(*map(self._one, chosen)))
        probes = [self._recorded(plan, one) for plan, one in zip(chosen, found, strict=True)]
        return [probe for probe in probes if probe is not None]

    async def _one(self, plan: ProbePlan) -> Measured | Exception:
        # One text a request: an unmeasurable one must not take the others with it.
        try:
            (measured,) = await self.probes.measure([plan.text], self.ledger.exemplars.latent)
        except self.refused as error:
            return error
        return measured

    def _recorded(self, plan: ProbePlan, found: Measured | Exception) -> MeasuredProbe | None:
        if isinstance(found, Exception):
            self.desk.log("invalid probe", text=plan.text, reason=str(found))
            return None
        probe = self.ledger.record(plan, found.tokens, found.activations)
        maximum = float(found.activations.max())
        self.desk.log("measured", probe=probe.id, text=plan.text, reading=probe.reading,
                      maximum=round(maximum, 6))  # fmt: skip
        return probe
