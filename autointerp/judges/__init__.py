"""Who answers a scorer's question. A judge sees an explanation's text and windows, no truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autointerp.latents import Example, LatentId


@dataclass(frozen=True)
class Verdict:
    """A judge's answer: yes or no, and the probability of yes where it has one.

    ``request`` is the journal's key of the reply that it was read from, if there was one.
    """

    label: bool
    probability: float | None = None
    request: str | None = None


@dataclass(frozen=True)
class NoVerdict:
    """Why a judge has no usable answer for an item."""

    reason: str


class Judge(Protocol):
    """Answers typed questions about an explanation."""

    name: str

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """Does the explanation apply somewhere in each window? One answer an example, in order.

        ``latent`` names the latent for seeds and logs. Activations must not be looked at.
        """
        ...
