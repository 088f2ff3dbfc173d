"""The runs that a viewer shows, one or two, and what it asks of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autointerp.latents import LatentId
from autointerp.pipeline.fired import Reading
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.pairs import Pairs

Document = Mapping[str, Any]


class Live(Protocol):
    """A run's subject and coders."""

    def fire(self, text: str) -> Reading:
        """Every latent that fires on a text; raises AutointerpError with what is wrong."""
        ...

    def nearest(self, latent: LatentId) -> list[tuple[LatentId, float]]:
        """The nearest latents by decoder direction, and their cosines."""
        ...


class Documents(Protocol):
    """What ``autointerp show`` says of a latent."""

    def __call__(self, latent: LatentId) -> Document: ...


@dataclass(frozen=True)
class Side:
    """One run: what it is called in addresses, its index, and where the rest comes from."""

    root: str  # "" or "/b", before every path of its pages
    run: Path
    index: Index
    document: Documents
    live: Live

    @property
    def name(self) -> str:
        """What the run is called on its pages."""
        return self.run.absolute().name


@dataclass(frozen=True)
class Shown:
    """All that a viewer shows: a run, or two and their pairs. ``paired`` tells whether a latent of
    one run is the latent of that name in the other."""

    sides: Sequence[Side]
    pairs: Pairs | None = None
    paired: bool = True

    def close(self) -> None:
        """Once nothing is asked any more."""
        for side in self.sides:
            side.index.close()
        if self.pairs is not None:
            self.pairs.close()
