"""What is summed up of a scorer's rows: some numbers a latent, gathered in one pass."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import SOURCES, LatentId, Metric, Score
from autointerp.pipeline.rows import TRUE, Scored

# What a cost is made of, but for its seconds.
QUANTITIES = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "dollars")
NATURAL = "natural_precision"
BALANCED = "balanced_accuracy"
_PAIR = 3  # counts of matched pairs, a latent


@dataclass
class Values:
    """Numbers of latents, and the coders of those, numbered."""

    values: array[float] = field(default_factory=lambda: array("d"))
    coders: array[int] = field(default_factory=lambda: array("i"))

    def add(self, value: float, coder: int) -> None:
        self.values.append(value)
        self.coders.append(coder)

    def __len__(self) -> int:
        return len(self.values)

    def numbers(self) -> NDArray[np.float64]:
        """[n]"""
        return np.frombuffer(self.values, np.float64) if self.values else np.zeros(0)

    def of(self, coder: int) -> NDArray[np.float64]:
        """Those of one coder."""
        mine = np.frombuffer(self.coders, np.int32) == coder
        found: NDArray[np.float64] = self.numbers()[mine]
        return found


@dataclass
class Columns:
    """One scorer's rows: add them latent by latent, the score of the own explanation first.

    ``items`` are how many each headline is over; ``pairs`` [n · 3] the matched pairs with none, one
    and both right; ``lifts`` true less control, of latents that have both.
    """

    headline: str = ""
    chance: float = 0.0
    coders: list[str] = field(default_factory=list)
    controls: defaultdict[str, Values] = field(default_factory=lambda: defaultdict(Values))
    lifts: defaultdict[str, Values] = field(default_factory=lambda: defaultdict(Values))
    sources: defaultdict[str, Values] = field(default_factory=lambda: defaultdict(Values))
    items: array[float] = field(default_factory=lambda: array("d"))
    natural: array[float] = field(default_factory=lambda: array("d"))
    pairs: array[float] = field(default_factory=lambda: array("d"))
    statuses: Counter[str] = field(default_factory=Counter)
    _true: tuple[LatentId, float] | None = None

    @property
    def true(self) -> Values:
        """The headlines of the own explanations."""
        return self.controls[TRUE]

    def add(self, scored: Scored) -> None:
        score, control = scored.score, scored.control
        if control == TRUE:
            self.statuses.update([score.status])
        if score.status != "scored":
            return
        value, coder = score.metrics[score.headline].value, self._coder(score.latent.coder)
        self.controls[control].add(value, coder)
        if control == TRUE:
            self._true = (score.latent, value)
            self._add_true(score, coder)
        elif self._true is not None and self._true[0] == score.latent:
            self.lifts[control].add(self._true[1] - value, coder)

    def _add_true(self, score: Score, coder: int) -> None:
        if not self.headline:
            self.headline, self.chance = score.headline, score.chance
        self.items.append(score.metrics[score.headline].n)
        if NATURAL in score.metrics:
            self.natural.append(score.metrics[NATURAL].value)
        if "pairs" in score.details:
            self.pairs.extend(score.details["pairs"])
        for source in SOURCES:
            if f"specificity_{source}" in score.metrics:
                self.sources[source].add(against(source, score.metrics, score.headline), coder)

    def pair_counts(self) -> NDArray[np.float64]:
        """[n, 3]"""
        found = np.frombuffer(self.pairs, np.float64) if self.pairs else np.zeros(0)
        return found.reshape(-1, _PAIR)

    def _coder(self, name: str) -> int:
        if name not in self.coders:
            self.coders.append(name)
        return self.coders.index(name)


def against(source: str, metrics: Mapping[str, Metric], headline: str) -> float:
    """The balanced accuracy against one source of negatives; that against the headline's source is
    the headline."""
    return metrics.get(source, metrics.get(BALANCED, metrics[headline])).value
