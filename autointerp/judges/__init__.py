"""Who answers a scorer's question. A judge sees an explanation's text and windows, no truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Background, Example, LatentId

Marks = NDArray[np.bool_]  # [window] which tokens of a window are asked about; at least one


class Verdict(NamedTuple):
    """A judge's answer: yes or no, and the probability of yes where it has one.

    ``request`` is the journal's key of the reply that it was read from, if there was one.
    """

    label: bool
    probability: float | None = None
    request: str | None = None


class NoVerdict(NamedTuple):
    """Why a judge has no usable answer for an item."""

    reason: str


class Pick(NamedTuple):
    """A judge's choice among explanations: its index. ``request`` is as in ``Verdict``."""

    chosen: int
    request: str | None = None


class Judge(Protocol):
    """Answers typed questions about an explanation."""

    name: str

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """Does the explanation apply somewhere in each window? One answer an example, in order.

        ``latent`` names the latent for seeds. Activations must not be looked at.
        """
        ...

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        """Does the explanation fit the marked tokens of each window? As :meth:`detect`."""
        ...


@runtime_checkable
class Chooser(Protocol):
    """Chooses among explanations."""

    name: str

    async def choose(
        self, explanations: Sequence[str], examples: Sequence[Example], *, latent: LatentId
    ) -> list[Pick | NoVerdict]:
        """Which explanation fits each window best? One answer an example, in order.

        ``latent`` names the latent for seeds. Activations must not be looked at.
        """
        ...


@runtime_checkable
class FreeJudge(Protocol):
    """A judge that costs nothing, and so reads every window there is."""

    def covers(self, explanation: str, background: Background) -> NDArray[np.bool_]:
        """[n] whether the explanation applies somewhere in each window of ``background``."""
        ...
