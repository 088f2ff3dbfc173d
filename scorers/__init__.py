"""Scorers: how well an explanation predicts what its latent does. One module each.

A scorer registers with ``autointerp.registry.scorers`` and is built as
``Scorer(options, seed=…, **needs)``, with what its options say it needs. Modules here import
relatively.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..latents import (
    Background,
    Evidence,
    ExampleBlock,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
    Score,
)
from ..registry import Options


@dataclass(frozen=True, eq=False)
class Materials:
    """What a scorer may use for one latent.

    ``test`` are labelled TEST windows, which ``labelled`` builds. ``background_maxima`` [n] has
    the latent's maximum in every window of ``background``, 0 where inactive. ``active`` reads the
    uniform sample of the latent's active TEST windows; ``active_count`` are all there are in the
    corpus, which has ``window_count`` windows (0 if that is not known).
    ``selection`` reads labelled SELECT windows, to fit on and never to report. ``peers`` are the
    run's explanations of the same kind and coder, the latent's own among them. ``background_near``
    tells in which windows of the background a latent is active that is easily taken for it: [n].
    """

    latent: LatentId
    labelled: Callable[[], LabelledSet]
    evidence: Evidence | None = None
    background: Background | None = None
    background_maxima: NDArray[np.float32] | None = None
    active: Callable[[], ExampleBlock] | None = None
    active_count: int = 0
    window_count: int = 0
    peers: Sequence[Explanation] = ()
    selection: Callable[[], LabelledSet] | None = None
    background_near: Callable[[], NDArray[np.bool_]] | None = None

    @property
    def test(self) -> LabelledSet:
        return self.labelled()


@dataclass(frozen=True, eq=False)
class Other:
    """Another latent of the run: its explanation, and some of its active windows of TEST."""

    explanation: Explanation
    windows: Sequence[Item]


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """A latent and its neighbours. In each window exactly one of them is active: the latent in
    its ``own``, active windows of TEST, and each other in its."""

    own: Sequence[Item]
    others: Sequence[Other]


class Others(Protocol):
    """The explained latents of a run, of which a scorer may need some beside its own.

    In which windows latents are active is read from the subject.
    """

    async def nearest(self, latent: LatentId, count: int, windows: int) -> Neighbourhood:
        """Up to ``count`` of the same coder, those of the nearest decoder directions first.

        About ``windows`` of the latent's windows are looked for, and as many of all others'
        together; where latents are often active together there may be fewer.
        """
        ...

    async def apart(self, latent: LatentId, count: int, windows: int) -> list[Other]:
        """Up to ``count`` random ones of the same coder, the least often active together with the
        latent first, with about ``windows`` windows in all, in which the latent is inactive."""
        ...


class JudgedOptions(Options):
    """Base of the options of scorers that a judge answers."""

    def needs(self) -> frozenset[str]:
        return frozenset({"judge"})


class Scorer(Protocol):
    """Scores one explanation.

    ``reads`` tells which kind of explanation: ``input`` (what the latent fires on), ``output``
    (what it causes), or None if it scores the latent itself; then there are no controls.
    One that has ``controls``, scorers by name, is controlled by them too: they ask about the same
    explanation in another way.
    """

    reads: Literal["input", "output"] | None

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """Judge the explanation. The same explanation, materials and seed give the same score."""
        ...
