"""Simulation: how strongly would the latent fire on each token, by the explanation alone?

Predictive accuracy. The headline is Pearson's correlation of predicted and true activations over
all tokens of 10 active and 10 random windows; ``variant: sage`` takes ten active windows alone,
of all strengths, as SAGE does (arXiv 2511.20820).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..judges import NoVerdict
from ..judges.simulating import Levels, LLMSimulator, PatternSimulator, Simulator
from ..latents import (
    Explanation,
    Failure,
    Item,
    LabelledSet,
    Metric,
    Score,
    Values,
)
from ..llm.client import LLMClient
from ..llm.templates import Templates
from ..registry import Options, scorers
from ..statistics import derived_generator
from . import Materials
from .values import Baselines, Predicted, calibrated, correlation_metrics, with_lift

HEADLINE = "pearson"
WINDOWS = 10  # of each source
SAGE_THIRDS = (3, 3, 4)  # of the weakest third of the active windows, the middle, the strongest


class SimulationOptions(Options):
    """``by`` tells who predicts: ``pattern`` where an explanation that is a pattern matches, or
    ``llm`` the model of the run's ``llms`` that ``llm`` names.

    ``logprobs`` takes the mean of a level over the probabilities of its digits, where the endpoint
    tells them. ``r_squared`` predicts 20 SELECT windows more, to fit predictions to the latent's
    units.
    """

    by: Literal["pattern", "llm"] = "pattern"
    llm: str = "judge"
    variant: Literal["balanced", "sage"] = "balanced"
    logprobs: bool = True
    r_squared: bool = True
    max_tokens: int = Field(default=1024, ge=1)

    def needs(self) -> frozenset[str]:
        return frozenset({"client", "templates"} if self.by == "llm" else ())

    @property
    def patterns_alone(self) -> bool:
        return self.by == "pattern"


@scorers.register("simulation", SimulationOptions)
class SimulationScorer:
    """Compares predicted with true activations, token by token.

    Beside the headline stand the mean Pearson of single windows, R², and two baselines that know
    no explanation, with the lift over each. A window without a usable reply is a failure.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self,
        options: SimulationOptions | None = None,
        seed: int = 0,
        *,
        client: LLMClient | None = None,
        templates: Templates | None = None,
    ) -> None:
        self.options = options or SimulationOptions()
        self.seed = seed
        self._simulator: Simulator = PatternSimulator()
        if client is not None and templates is not None:
            self._simulator = LLMSimulator(
                client,
                templates,
                logprobs=self.options.logprobs,
                max_tokens=self.options.max_tokens,
            )

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        tested = self._chosen(materials.test)
        if isinstance(tested, str):
            return self._score(explanation, materials, status="too_few_examples", reason=tested)
        fitted_on: list[Item] | str = []
        if self.options.r_squared and materials.selection is not None:
            fitted_on = self._chosen(materials.selection())
        fit = [] if isinstance(fitted_on, str) else fitted_on
        outcomes = await self._outcomes(explanation, [*tested, *fit])
        outcomes, fitted = outcomes[: len(tested)], outcomes[len(tested) :]
        rng = derived_generator(self.seed, materials.latent, "simulation bootstrap")
        metrics = correlation_metrics(tested, outcomes, rng)
        if materials.evidence is not None:
            baselines = Baselines.of(materials.evidence).metrics(tested)
            metrics |= with_lift(baselines, metrics[HEADLINE])
        if fit:
            metrics["r_squared"] = calibrated(tested, outcomes, fit, fitted)
        reason = _all_failed(outcomes)
        return self._score(
            explanation,
            materials,
            metrics=metrics,
            outcomes=outcomes,
            status="scored" if reason is None else "failed",
            reason=reason,
            details={"no_r_squared": fitted_on} if isinstance(fitted_on, str) else {},
        )

    def _chosen(self, windows: LabelledSet) -> list[Item] | str:
        """The windows to predict, drawn from (seed, latent), or why there are too few."""
        if windows.shortage is not None:
            return windows.shortage
        rng = derived_generator(self.seed, windows.latent, "simulation", windows.split)
        active = [item for item in windows.items if item.source == "activating"]
        if len(active) < WINDOWS:
            return f"{len(active)} active windows, {WINDOWS} are needed"
        if self.options.variant == "sage":
            return _of_thirds(active, rng)
        silent = [item for item in windows.items if item.source == "random"]
        if len(silent) < WINDOWS:
            return windows.unavailable.get("random", f"{len(silent)} random windows")
        drawn = rng.permutation(len(silent))[:WINDOWS].tolist()
        return [*_of_deciles(active, rng), *(silent[i] for i in drawn)]

    async def _outcomes(self, explanation: Explanation, items: Sequence[Item]) -> list[Predicted]:
        examples = [item.example for item in items]
        levels = await self._simulator.levels(explanation.text, examples)
        return [_outcome(item, found) for item, found in zip(items, levels, strict=True)]

    def _score(
        self,
        explanation: Explanation,
        materials: Materials,
        *,
        metrics: Mapping[str, Metric] = MappingProxyType({}),
        outcomes: Sequence[Predicted] = (),
        **fields: Any,
    ) -> Score:
        return Score(
            latent=materials.latent,
            explanation=explanation.id,
            scorer="simulation",
            judge=self.options.by,
            headline=HEADLINE,
            chance=0.0,
            metrics=metrics,
            outcomes=outcomes,
            **fields,
        )


def _of_deciles(active: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Ten windows, as even over the deciles of their strength as can be."""
    order = rng.permutation(len(active)).tolist()
    met: Counter[int | None] = Counter()
    turn: dict[int, int] = {}
    for i in order:
        turn[i] = met[active[i].decile]
        met[active[i].decile] += 1
    chosen = sorted(order, key=turn.__getitem__)[:WINDOWS]  # stable: random within a turn
    return [active[i] for i in sorted(chosen)]


def _of_thirds(active: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """Ten windows of the weakest, middle and strongest third."""
    ascending = sorted(range(len(active)), key=lambda i: active[i].example.maximum)
    thirds = np.array_split(np.array(ascending), len(SAGE_THIRDS))
    drawn = [rng.permutation(t)[:n].tolist() for t, n in zip(thirds, SAGE_THIRDS, strict=True)]
    return [active[i] for part in drawn for i in part]


def _outcome(item: Item, levels: Levels) -> Predicted:
    if isinstance(levels, NoVerdict):
        return Failure(levels.reason, item.source, item.decile)
    truth = tuple(item.example.activations.astype(float).tolist())
    return Values(truth, tuple(levels), item.source, item.decile)


def _all_failed(outcomes: Sequence[Predicted]) -> str | None:
    """Why there is no prediction at all, if there is none."""
    reasons = [o.reason for o in outcomes if isinstance(o, Failure)]
    return f"no window was predicted: {reasons[0]}" if len(reasons) == len(outcomes) else None
