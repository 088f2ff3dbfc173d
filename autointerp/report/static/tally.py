"""What the report tells of all latents together, added up one latent at a time.

Whatever the number of latents, it holds histograms, running sums and samples alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations
from math import floor, log10
from typing import NamedTuple

from autointerp.latents import LatentId
from autointerp.pipeline.failing import kind_of
from autointerp.pipeline.repeats import REPEAT
from autointerp.pipeline.rows import TRUE
from autointerp.report.static.reading import Judged, Seen, finite
from autointerp.report.static.sums import Best, Correlation, Histogram, Mean, Sample

POINTS = 1500  # latents of a scatter plot
SEARCHES = 500  # latents whose probes and hypotheses are counted
SHOWN = 6  # best, worst and most surprising latents, each
KINDS = 1000  # different reasons of failures that are told apart
OTHER = "other reasons"
DECILES = 10
HALF_DECADES = 2  # bins of density to a factor of ten
_DECILE, _SOURCE = "recall_decile_", "specificity_"


@dataclass(frozen=True)
class Point:
    """One latent of the scatter plots: headlines by scorer, and the share of tokens it fires on."""

    latent: LatentId
    density: float | None
    values: dict[str, float]


@dataclass(frozen=True)
class Pick:
    """A latent worth showing, and why."""

    latent: LatentId
    why: str


class Headline(NamedTuple):
    """What a scorer's headline is called, and its chance level."""

    name: str
    chance: float


@dataclass
class Tally:
    """The figures so far; ``seed`` draws the samples."""

    seed: int = 0
    coverage: dict[str, Counter[str]] = field(default_factory=dict)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)  # what, why
    headlines: dict[str, Headline] = field(default_factory=dict)
    values: dict[str, dict[str, Histogram]] = field(default_factory=dict)  # scorer, control
    deciles: dict[str, dict[int, Mean]] = field(default_factory=dict)
    sources: dict[str, dict[str, Mean]] = field(default_factory=dict)
    unanswered: dict[str, Mean] = field(default_factory=dict)  # share of a latent's items
    pairs: dict[tuple[str, str], Correlation] = field(default_factory=dict)
    densities: dict[str, dict[int, Mean]] = field(default_factory=dict)  # scorer, bin
    ranked: int = 0  # latents that can be among the best and the worst

    def __post_init__(self) -> None:
        self.points: Sample[Point] = Sample(POINTS, self.seed)
        self.explained: Sample[LatentId] = Sample(SEARCHES, self.seed)
        self.best: Best[Pick] = Best(SHOWN)
        self.worst: Best[Pick] = Best(SHOWN)
        self.surprising: Best[Pick] = Best(SHOWN)

    def add(self, seen: Seen, density: float | None) -> None:
        """Take in one latent; ``density`` is the share of tokens it fires on."""
        self.coverage.setdefault(seen.latent.coder, Counter())[seen.status] += 1
        if seen.status == "failed":
            self.fail("explaining", seen.reason)
        for judged in seen.judged:
            self._judged(judged)
        own = {j.scorer: j.value for j in seen.judged if j.control == TRUE and j.value is not None}
        for (a, x), (b, y) in combinations(sorted(own.items()), 2):
            self.pairs.setdefault((a, b), Correlation()).add(x, y)
        if density:
            place = density_bin(density)
            for scorer, value in own.items():
                self.densities.setdefault(scorer, defaultdict(Mean))[place].add(value)
        if own:
            self.points.add(Point(seen.latent, density, own))
        if seen.status == "explained":
            self.explained.add(seen.latent)
            self._rank(seen)

    def fail(self, what: str, reason: str | None) -> None:
        """Count a failure by its kind."""
        kind = (what, kind_of(reason or "no reason given"))
        known = kind in self.failures or len(self.failures) < KINDS
        self.failures[kind if known else (what, OTHER)] += 1

    def _judged(self, judged: Judged) -> None:
        scorer = judged.scorer
        if judged.status == "failed":
            self.fail(f"{scorer} {judged.control}".strip(), judged.reason)
        if judged.value is None or judged.control == REPEAT:
            return
        self.headlines.setdefault(scorer, Headline(judged.headline, judged.chance))
        of = self.values.setdefault(scorer, defaultdict(Histogram))
        of[judged.control].add(judged.value)
        if judged.control == TRUE:
            self._details(judged)

    def _details(self, judged: Judged) -> None:
        scorer = judged.scorer
        groups = {}
        for name, (found, *_, n) in judged.metrics.items():
            value = finite(found)
            if value is None:
                continue
            if name.startswith(_DECILE):
                groups[int(name.removeprefix(_DECILE))] = value
            elif name.startswith(_SOURCE):
                source = name.removeprefix(_SOURCE)
                self.sources.setdefault(scorer, defaultdict(Mean))[source].add(value)
            elif name == "failures" and n:
                self.unanswered.setdefault(scorer, Mean()).add(value / n)
        ranked = [groups[group] for group in sorted(groups)]
        for decile in range(DECILES if ranked else 0):  # few texts make fewer groups than ten
            value = ranked[int(len(ranked) * (decile + 0.5) / DECILES)]
            self.deciles.setdefault(scorer, defaultdict(Mean))[decile].add(value)

    def _rank(self, seen: Seen) -> None:
        own = seen.own()
        if not own:
            return
        skills = {j.scorer: j.skill for j in own if j.skill is not None}
        mean = sum(skills.values()) / len(skills)
        least = sum(j.least for j in own if j.least is not None) / len(own)
        told = ", ".join(f"{j.scorer} {j.value:.3f}" for j in own)
        self.ranked += 1
        self.best.add((mean, least), Pick(seen.latent, told))
        # Of equals the last, so that of few latents each is on one side.
        self.worst.add((-mean, -least, self.ranked), Pick(seen.latent, told))
        self._surprise(seen, skills, mean, told)

    def _surprise(self, seen: Seen, skills: dict[str, float], mean: float, told: str) -> None:
        """The larger of two gaps: between its scorers, and between confidence and their mean."""
        highest, lowest = (f(skills, key=skills.__getitem__) for f in (max, min))
        between = skills[highest] - skills[lowest]
        beside = 0.0
        if seen.confidence is not None:
            beside = abs(seen.confidence - min(1.0, max(0.0, mean)))
        if beside > between:
            why = f"the explainer’s confidence is {seen.confidence:.2f}, the scores are {told}"
        else:
            why = f"{highest} and {lowest} disagree: {told}"
        if gap := max(between, beside):
            self.surprising.add((gap,), Pick(seen.latent, why))


def density_bin(density: float) -> int:
    """The half-decade of a positive density: bin b is from 10^(b/2) to 10^((b+1)/2)."""
    return floor(log10(density) * HALF_DECADES)
