"""Log probabilities where an endpoint offers them, and no more of them where it does not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from autointerp.llm.client import LLMFailure

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Logprobs:
    """Asks for the ``top`` likeliest tokens in each place until an endpoint says it has none."""

    def __init__(self, wanted: bool, top: int) -> None:
        self._top = top if wanted else 0

    async def ask(self, request: Callable[[int], Awaitable[T]]) -> T:
        """The answer to ``request``, which is given how many tokens to ask for.

        Raises:
            LLMFailure: as ``request`` does, for anything but a refusal of log probabilities.
        """
        if self._top:
            try:
                return await request(self._top)
            except LLMFailure as failure:
                # After an answer it is the model that failed, and the words may be its own.
                if failure.answers or "logprobs" not in failure.reason:
                    raise
                self._remember_none(failure.reason)
        return await request(0)

    def _remember_none(self, reason: str) -> None:
        if self._top:
            self._top = 0
            _log.warning("%s; from now on answers are asked for without probabilities", reason)
