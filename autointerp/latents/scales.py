"""When a measured activation counts as on, and how activations are shown to language models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from autointerp.latents.windows import Evidence, Example

LARGEST = 10
LEVELS = 10  # activations are shown as integers 0 to LEVELS
SPAN = 8  # windows are the same if they agree within this many tokens of their peaks
Reading = Literal["on", "graded", "off"]


def span(example: Example) -> bytes:
    """The tokens around a window's peak: equal for windows that count as the same."""
    at = int(example.activations.argmax())
    return bytes(example.token_ids[max(0, at - SPAN) : at + SPAN + 1].tobytes())


def distinct(examples: Iterable[Example]) -> list[Example]:
    """The first of all windows that agree around their peaks, in their order."""
    found: dict[bytes, Example] = {}
    for example in examples:
        found.setdefault(span(example), example)
    return list(found.values())


@dataclass(frozen=True)
class Scale:
    """A latent's reference strengths, in the coder's units.

    ``strong`` is the median of the ten largest window maxima (the largest alone grows with the
    corpus), ``typical`` the median maximum of its active windows.
    """

    strong: float
    typical: float

    @classmethod
    def of(cls, maxima: Sequence[float], sampled: Sequence[float]) -> Scale:
        """From the maxima of all distinct active windows, and of the uniformly sampled ones."""
        largest = sorted(maxima)[-LARGEST:]
        return cls(float(np.median(largest)), float(np.median(sampled or maxima)))

    @classmethod
    def of_evidence(cls, evidence: Evidence) -> Scale | None:
        """From a latent's distinct EXPLAIN windows; None if it has none."""
        everything = distinct([*evidence.top, *evidence.sampled])
        if not everything:
            return None
        sampled = distinct(evidence.sampled)
        return cls.of([e.maximum for e in everything], [e.maximum for e in sampled])

    @property
    def on(self) -> float:
        """The least maximum that counts as on."""
        return max(0.1 * self.strong, 0.5 * self.typical)

    @property
    def off(self) -> float:
        """The largest maximum that counts as off."""
        return 0.02 * self.strong

    def reading(self, maximum: float) -> Reading:
        """Of a text, from the largest activation in it."""
        if maximum >= self.on:
            return "on"
        return "off" if maximum <= self.off else "graded"

    def levels(self, activations: ArrayLike) -> tuple[int, ...]:
        """Integers 0 to 10, where 10 is ``strong`` or more; 0 only where it does not fire."""
        values = np.asarray(activations, np.float64)
        rounded = np.clip(np.rint(LEVELS * values / self.strong), 1, LEVELS)
        return tuple(np.where(values > 0, rounded, 0).astype(int).tolist())
