"""Generation: do texts written from the explanation alone activate the latent?

Generative accuracy, measured on the subject. Ten texts are written on which the latent should
fire, and twenty near misses on which it should not. ``variant: sage`` writes the ten alone and
counts those that reach half the mean of the ten largest maxima (arXiv 2511.20820).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..judges import NoVerdict
from ..latents import (
    AutointerpError,
    Explanation,
    Failure,
    LatentId,
    Metric,
    Number,
    Score,
)
from ..latents.scales import LARGEST, Scale
from ..llm.client import LLMClient
from ..llm.templates import Templates
from ..patterns.reading import Encode
from ..registry import Options, scorers
from ..statistics import Tally, balanced_accuracy, failure_bounds, wilson
from . import Materials
from .texts import LLMTexts, PatternTexts, Texts, Wanted

ACTIVATING, NEAR_MISS = "activating", "near_miss"
WANTED = {"balanced": Wanted(10, 20), "sage": Wanted(10, 0)}
HEADLINES = {"balanced": ("balanced_accuracy", 0.5), "sage": ("success_rate", 0.0)}  # and chance
SAMPLES = 3  # texts of each kind that a score quotes
Measured = Number | Failure


class Reading(Protocol):
    """One text as the subject read it."""

    @property
    def activations(self) -> NDArray[np.float32]:
        """[tokens], in the coder's units."""
        ...


class Probes(Protocol):
    """Runs texts through the subject; a queue may batch over latents."""

    async def measure(self, texts: Sequence[str], latent: LatentId) -> Sequence[Reading]:
        """One reading a text, in order."""
        ...


class GenerationOptions(Options):
    """``by`` tells who writes: ``pattern`` composes texts for explanations that are patterns out
    of stretches of TEST text; ``llm`` is the model of the run's ``llms`` that ``llm`` names."""

    by: Literal["pattern", "llm"] = "pattern"
    llm: str = "writer"
    variant: Literal["balanced", "sage"] = "balanced"
    max_tokens: int = Field(default=4096, ge=1)

    def needs(self) -> frozenset[str]:
        own = {"client", "templates"} if self.by == "llm" else {"encode"}
        return frozenset({"probes", "refused", *own})

    @property
    def patterns_alone(self) -> bool:
        return self.by == "pattern"


@scorers.register("generation", GenerationOptions)
class GenerationScorer:
    """Measures texts written from the explanation; no window that an explainer saw is scored.

    The headline is the mean of the shares of activating texts that are *on*, by the threshold
    of the explainer agent, and of near misses that are not: a text that has nothing to do with
    the latent has 0.5. The same at half the latent's strength stands beside it. A text that is
    missing or cannot be measured is a failure.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self,
        options: GenerationOptions | None = None,
        seed: int = 0,
        *,
        probes: Probes,
        refused: type[AutointerpError],
        encode: Encode | None = None,
        client: LLMClient | None = None,
        templates: Templates | None = None,
    ) -> None:
        self.options = options or GenerationOptions()
        self._probes, self._refused = probes, refused
        self._texts: Texts
        if client is not None and templates is not None:
            self._texts = LLMTexts(client, templates, max_tokens=self.options.max_tokens)
        elif encode is not None:
            self._texts = PatternTexts(encode, seed)
        else:
            raise TypeError("texts are written by a client with templates, or with encode")

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        evidence = materials.evidence
        scale = Scale.of_evidence(evidence) if evidence is not None else None
        if evidence is None or scale is None:
            return self._score(
                explanation,
                materials,
                status="too_few_examples",
                reason="no active EXPLAIN windows, so nothing tells what counts as on",
            )
        wanted = WANTED[self.options.variant]
        written = await self._texts.write(explanation.text, materials, wanted)
        outcomes = await self._measured(written, wanted, materials.latent)
        thresholds = {"on": scale.on, "half": 0.5 * scale.strong}
        if self.options.variant == "sage":
            largest = [example.maximum for example in evidence.top[:LARGEST]]
            thresholds = {"half": 0.5 * float(np.mean(largest))}
        reasons = [o.reason for o in outcomes if isinstance(o, Failure)]
        failed = len(reasons) == len(outcomes)
        return self._score(
            explanation,
            materials,
            metrics=self._metrics(outcomes, thresholds, materials),
            outcomes=outcomes,
            status="failed" if failed else "scored",
            reason=f"no text was measured: {reasons[0]}" if failed else None,
            details={"thresholds": thresholds, "samples": _samples(written, outcomes, wanted)},
        )

    async def _measured(
        self, written: Sequence[str | NoVerdict], wanted: Wanted, latent: LatentId
    ) -> list[Measured]:
        """The largest activation in each text; a refused text takes no other with it."""
        texts = [text for text in written if isinstance(text, str)]
        refused: Mapping[str, str] = {}
        try:
            readings = await self._probes.measure(texts, latent) if texts else ()
        except self._refused as error:
            refused = getattr(error, "reasons")  # noqa: B009 – only a ProbeError has them
            texts = [text for text in texts if text not in refused]
            readings = await self._probes.measure(texts, latent)
        found = {t: float(r.activations.max()) for t, r in zip(texts, readings, strict=True)}
        sources = [ACTIVATING] * wanted.activating + [NEAR_MISS] * wanted.near_misses
        return [
            _outcome(text, found, refused, source)
            for text, source in zip(written, sources, strict=True)
        ]

    def _metrics(
        self, outcomes: Sequence[Measured], thresholds: Mapping[str, float], materials: Materials
    ) -> dict[str, Metric]:
        metrics: dict[str, Metric] = {}
        for name, threshold in thresholds.items():
            suffix = "" if name == "on" or len(thresholds) == 1 else f"_{name}"
            found = _rates(outcomes, threshold, materials.background_maxima)
            metrics |= {f"{metric}{suffix}": value for metric, value in found.items()}
        failures = sum(isinstance(o, Failure) for o in outcomes)
        return metrics | {"failures": Metric(float(failures), n=len(outcomes))}

    def _score(
        self,
        explanation: Explanation,
        materials: Materials,
        *,
        metrics: Mapping[str, Metric] = MappingProxyType({}),
        outcomes: Sequence[Measured] = (),
        **fields: Any,
    ) -> Score:
        headline, chance = HEADLINES[self.options.variant]
        return Score(
            latent=materials.latent,
            explanation=explanation.id,
            scorer="generation",
            judge=self.options.by,
            headline=headline,
            chance=chance,
            metrics=metrics,
            outcomes=outcomes,
            **fields,
        )


def _outcome(
    text: str | NoVerdict, found: Mapping[str, float], refused: Mapping[str, str], source: str
) -> Measured:
    if isinstance(text, NoVerdict):
        return Failure(text.reason, source)
    return Failure(refused[text], source) if text in refused else Number(found[text], source)


def _rates(
    outcomes: Sequence[Measured], threshold: float, background: NDArray[np.float32] | None
) -> dict[str, Metric]:
    """Hits and rejections at one threshold; failures are neither. ``base_rate`` is the share of
    background windows [n] that reach it."""
    hits = _tally(outcomes, ACTIVATING, lambda value: value >= threshold)
    misses = _tally(outcomes, NEAR_MISS, lambda value: value < threshold)
    rates: dict[str, Metric] = {}
    if background is not None and len(background):
        share = float(np.mean(background >= threshold))
        rates["base_rate"] = Metric(share, n=len(background))
    if not misses.n:
        return {
            "success_rate": Metric.of(wilson(hits), hits.n),
            "worst_case": Metric(hits.worst, n=hits.n),
            "best_case": Metric(hits.best, n=hits.n),
            **rates,
        }
    worst, best = failure_bounds(hits, misses)
    n = hits.n + misses.n
    return {
        "balanced_accuracy": Metric.of(balanced_accuracy(hits, misses), n),
        "hit_rate": Metric.of(wilson(hits), hits.n),
        "rejection_rate": Metric.of(wilson(misses), misses.n),
        "worst_case": Metric(worst, n=n),
        "best_case": Metric(best, n=n),
        **rates,
    }


def _tally(outcomes: Sequence[Measured], source: str, right: Callable[[float], bool]) -> Tally:
    mine = [o for o in outcomes if o.source == source]
    failed = sum(isinstance(o, Failure) for o in mine)
    return Tally(len(mine), sum(isinstance(o, Number) and right(o.value) for o in mine), failed)


def _samples(
    written: Sequence[str | NoVerdict], outcomes: Sequence[Measured], wanted: Wanted
) -> dict[str, list[Any]]:
    """The first few texts of each kind with what was measured on them."""
    pairs = list(zip(written, outcomes, strict=True))
    parts = {ACTIVATING: pairs[: wanted.activating], NEAR_MISS: pairs[wanted.activating :]}
    return {
        kind: [[t, o.value] for t, o in part if isinstance(o, Number)][:SAMPLES]
        for kind, part in parts.items()
    }
