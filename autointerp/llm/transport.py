"""What passes between the layers and a transport: answers, faults that may pass, refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from autointerp.llm.client import TokenLogprob, Usage

FaultKind = Literal["busy", "timeout", "connection", "server", "garbled"]
RefusalKind = Literal["request", "schema", "account", "setup"]
MOST_SHOWN = 300  # characters of a server's own words that a fault or a refusal tells


@dataclass(frozen=True)
class Answer:
    """What a model said, as the journal keeps it. ``finish`` is the server's reason to stop."""

    text: str
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish: str | None = None


class Fault(Exception):
    """The transport failed in a way that may pass.

    ``billed`` says that the server may have answered all the same; ``retry_after`` is in seconds.
    """

    def __init__(
        self, kind: FaultKind, reason: str, billed: bool, retry_after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.billed = billed
        self.retry_after = retry_after


class Refusal(Exception):
    """The server will not answer, however often it is asked; nothing was billed.

    It refuses this ``request``, or its ``schema`` because it knows no structured outputs, or all
    requests: because the ``account`` is empty, or because of the ``setup`` (key, model).
    """

    def __init__(self, kind: RefusalKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Server(Protocol):
    """A server that the run keeps alive itself."""

    @property
    def url(self) -> str:
        """The base URL of its API."""
        ...

    async def ready(self) -> None:
        """Return when it takes requests. Raises Refusal if it never will again."""
        ...


Route = Literal["/chat/completions", "/completions"]


class Transport(Protocol):
    """Sends one body, once."""

    async def send(self, body: bytes, path: Route = "/chat/completions") -> Answer:
        """Post ``body``. Raises Fault or Refusal."""
        ...

    async def close(self) -> None: ...


class Waiting:
    """Sends what another transport sends, when the server is up: a restart costs no attempts."""

    def __init__(self, transport: Transport, server: Server) -> None:
        self._transport = transport
        self._server = server

    async def send(self, body: bytes, path: Route = "/chat/completions") -> Answer:
        """Wait, and post ``body``. Raises Fault or Refusal."""
        await self._server.ready()
        return await self._transport.send(body, path)

    async def close(self) -> None:
        await self._transport.close()
