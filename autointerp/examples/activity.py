"""Which latents are active in which windows, for coroutines that ask.

The subject reads the windows once more. What is asked at once goes in together: a row that holds
windows of several questions is read once. A latent that lies at the edge of a top-k may be found
active among some questions, and inactive among others, as last digits depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.reading import Coders, active_in
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.subject.gathering import Answer, Gatherer
from autointerp.subject.model import Subject
from autointerp.subject.recent import Recent

LOT = 128  # questions taken together at most
MEMORY = 1024  # answers kept: the controls of an explanation ask what it asked

Active = NDArray[np.bool_]  # [latents, windows]


class Question(NamedTuple):
    """In which of the windows, by address, is which of the latents active?"""

    latents: tuple[LatentId, ...]
    windows: tuple[int, ...]


def activity(
    store: ExampleStore, subject: Subject, coders: Coders, lot: Sequence[Question]
) -> list[Active]:
    """For each question which latents are active in which windows: [latents, windows].

    Raises:
        KeyError: if ``coders`` lacks a latent's coder.
    """
    latents = list(dict.fromkeys(latent for question in lot for latent in question.latents))
    windows = [np.array(question.windows, np.int64) for question in lot]
    found = active_in(store, subject, coders, latents, windows, None)
    active = dict(zip(latents, found, strict=True))
    return [
        np.array([np.isin(codes, active[latent]) for latent in question.latents])
        for question, codes in zip(lot, windows, strict=True)
    ]


class ActivityQueue:
    """Has windows read for coroutines; close with :meth:`aclose`.

    ``workers`` each answer lots as :func:`activity` does, in a thread each.
    """

    def __init__(self, workers: Sequence[Answer[Question, Active]]) -> None:
        self._gatherer: Gatherer[Question, Active] = Gatherer(
            workers, "activity", lot=LOT, memory=Recent(MEMORY)
        )

    async def active(self, question: Question) -> Active:
        """[latents, windows]"""
        return (await self._gatherer.ask([question]))[0]

    async def aclose(self) -> None:
        """Let the lots under way end, and end the threads."""
        await self._gatherer.aclose()
