"""Calls of roles within the caps, and the log of all that happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import PositiveFloat, PositiveInt

from autointerp.explainers.agent.roles import RoleFailure, Roles
from autointerp.registry import Options

FAILURES_IN_A_ROW = 3
Event = dict[str, Any]
T = TypeVar("T")


class Caps(Options):
    """Where the agent stops, whatever it has found.

    ``probes`` counts measured texts, ``calls`` requests to a language model or, if more, calls of
    roles; ``prompt_tokens`` those that no prefix cache saved; ``seconds`` is wall-clock time.
    """

    rounds: PositiveInt = 6
    probes: PositiveInt = 80
    calls: PositiveInt = 15
    prompt_tokens: PositiveInt = 120_000
    seconds: PositiveFloat = 900.0


class Stop(Exception):
    """Leaves the cycle; its argument says why."""


class Failed(Stop):
    """Leaves the cycle because the roles failed."""


class Desk:
    """Asks the roles of one latent, and keeps the log."""

    def __init__(self, roles: Roles, caps: Caps, clock: Callable[[], float]) -> None:
        self.roles, self.caps = roles, caps
        self.events: list[Event] = []
        self.round = self.calls = 0
        self._clock = clock
        self._deadline = clock() + caps.seconds
        self._failures = 0

    def log(self, event: str, **details: Any) -> None:
        """Add a JSON-able event."""
        self.events.append({"event": event, "round": self.round, **details})

    def begin_round(self, measured: int) -> None:
        """Start the next round.

        Raises:
            Stop: if there is none left, or no probe is.
        """
        if self.round == self.caps.rounds:
            raise Stop(f"the cap of {self.caps.rounds} rounds is reached")
        if measured >= self.caps.probes:
            raise Stop(f"the cap of {self.caps.probes} probes is reached")
        self.round += 1

    async def call(self, role: str, request: Callable[[], Awaitable[T]]) -> T | None:
        """The role's reply; None if it failed and may be asked again.

        Raises:
            Stop: if a cap is reached.
            Failed: at the third failure in a row.
        """
        self._check_caps()
        self.calls += 1
        try:
            reply = await self.in_time(request())
        except RoleFailure as error:
            self._failures += 1
            self.log("call", role=role, failure=error.reason)
            if self._failures == FAILURES_IN_A_ROW:
                raise Failed(f"{role} failed, the third call in a row: {error.reason}") from error
            return None
        self._failures = 0
        self.log("call", role=role, prompt_tokens=self._spent())
        return reply

    async def in_time(self, awaited: Awaitable[T]) -> T:
        """Await within what is left of the time.

        Raises:
            Stop: when it is over.
        """
        limit = asyncio.timeout(max(0.0, self._deadline - self._clock()))
        try:
            async with limit:
                return await awaited
        except TimeoutError:
            if not limit.expired():
                raise
            raise Stop(f"the cap of {self.caps.seconds:g} seconds is reached") from None

    def _spent(self) -> int:
        return self.roles.cost.prompt_tokens - self.roles.cost.cached_tokens

    def _check_caps(self) -> None:
        if max(self.calls, self.roles.cost.requests) >= self.caps.calls:
            raise Stop(f"the cap of {self.caps.calls} calls is reached")
        if self._spent() >= self.caps.prompt_tokens:
            raise Stop(f"the cap of {self.caps.prompt_tokens} prompt tokens is reached")
