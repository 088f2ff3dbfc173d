"""What probes say of a hypothesis: two Beta posteriors, and the verdict on them.

The hit rate h (predicted on, measured on) and the rejection rate r (predicted off, measured
off) are kept apart, each with a uniform prior. Probes of one family share a frame and so a
fate: they enter as their mean, with weight one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from scipy.special import betaincc

from autointerp.explainers.agent.roles import Prediction, Verdict
from autointerp.latents.scales import Reading

SideName = Literal["on", "off"]

CONFIRMED_RATE, CONFIRMED_BELIEF = 0.6, 0.9
WEAK_RATE, WEAK_BELIEF = 0.7, 0.1
REFUTED_RATE, REFUTED_BELIEF = 0.5, 0.05
LEAST_PROBES, LEAST_FAMILIES, LEAST_PAIRS = 6, 4, 3


@dataclass(frozen=True)
class Counted:
    """One informative probe of a hypothesis: which side it tests, and how it went.

    ``value`` is 1 for as predicted, 0 for not, one half for a graded reading predicted on.
    """

    side: SideName
    family: str
    value: float
    pair: bool = False  # a minimal pair whose unedited member measured on


def outcome(predicted: Prediction, reading: Reading) -> float:
    """How a prediction went, 0 to 1. A graded activation is half a hit, and no rejection.

    Raises:
        ValueError: for ``abstain``, which predicts nothing.
    """
    if predicted == "abstain":
        raise ValueError("abstaining predicts nothing")
    if predicted == "on":
        return {"on": 1.0, "graded": 0.5, "off": 0.0}[reading]
    return float(reading == "off")


@dataclass(frozen=True)
class Rate:
    """Beta(1, 1) updated by families: ``successes`` of ``families``, from ``probes`` probes."""

    successes: float = 0.0
    families: int = 0
    probes: int = 0

    @classmethod
    def of(cls, tested: Iterable[Counted]) -> Rate:
        by_family: dict[str, list[float]] = {}
        for probe in tested:
            by_family.setdefault(probe.family, []).append(probe.value)
        # Sorted, so that rounding is the same in whatever order the probes came.
        means = sorted(sum(sorted(values)) / len(values) for values in by_family.values())
        return cls(sum(means), len(means), sum(map(len, by_family.values())))

    @property
    def mean(self) -> float:
        """Posterior mean."""
        return (1 + self.successes) / (2 + self.families)

    def exceeds(self, rate: float) -> float:
        """Posterior probability that the true rate is at least ``rate``."""
        return _exceeds(self.successes, self.families, rate)


@lru_cache(maxsize=4096)
def _exceeds(successes: float, families: int, rate: float) -> float:
    return float(betaincc(1 + successes, 1 + families - successes, rate))


@dataclass(frozen=True)
class Belief:
    """Both rates of a hypothesis, and its valid minimal pairs."""

    hits: Rate = Rate()
    rejections: Rate = Rate()
    pairs: int = 0

    @classmethod
    def of(cls, tested: Sequence[Counted]) -> Belief:
        """The belief after these probes, whatever their order."""
        return cls(
            Rate.of(probe for probe in tested if probe.side == "on"),
            Rate.of(probe for probe in tested if probe.side == "off"),
            sum(probe.pair for probe in tested),
        )

    @property
    def verdict(self) -> Verdict:
        """CONFIRMED needs variety besides rates; WEAK is a text to rewrite, not to test on."""
        if self._sure() and self._varied():
            return "confirmed"
        if self.hits.exceeds(REFUTED_RATE) <= REFUTED_BELIEF:
            return "refuted"
        weak = any(rate.exceeds(WEAK_RATE) <= WEAK_BELIEF for rate in (self.hits, self.rejections))
        return "weak" if weak else "open"

    @property
    def doubtful(self) -> bool:
        """Whether its author should look again: weak, refuted, or on no way to be confirmed."""
        tried = [rate for rate in (self.hits, self.rejections) if rate.families >= LEAST_FAMILIES]
        slow = any(rate.mean < WEAK_RATE for rate in tried)
        return self.verdict in ("weak", "refuted") or (self.verdict == "open" and slow)

    def _sure(self) -> bool:
        return all(
            rate.exceeds(CONFIRMED_RATE) >= CONFIRMED_BELIEF
            for rate in (self.hits, self.rejections)
        )

    def _varied(self) -> bool:
        sides = (self.hits, self.rejections)
        return self.pairs >= LEAST_PAIRS and all(
            side.probes >= LEAST_PROBES and side.families >= LEAST_FAMILIES for side in sides
        )

    def moved(self, before: Belief) -> float:
        """By how much the larger of the two posterior means changed."""
        return max(
            abs(self.hits.mean - before.hits.mean),
            abs(self.rejections.mean - before.rejections.mean),
        )
