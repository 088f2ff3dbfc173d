"""Batch files: their lines, who carries them, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from autointerp.llm.completions import read_completion
from autointerp.llm.journal_batches import Batch
from autointerp.llm.transport import MOST_SHOWN, Answer, Fault, Refusal, Route

EXPIRED = "batch_expired"

Result = Answer | Fault | Refusal
Sort = Callable[[int, str], Fault | Refusal]  # an HTTP status and what was said with it


class Full(Exception):
    """No more is taken now, because too much is queued already; nothing was done or billed."""


class Unreachable(Refusal):
    """It cannot be found out what became of a batch; it may be under way."""


@dataclass(frozen=True)
class Ended:
    """How a batch ended: files with a line for each request that was answered or refused, and
    what becomes of the others. Nobody billed those."""

    files: tuple[Path, ...]
    others: Fault | Refusal


class Carrier(Protocol):
    """Hands batch files over, and brings back what became of them."""

    async def submit(self, batch: Batch, file: Path) -> str:
        """Hand a file over; the batch's name there.

        Raises:
            Full: if it is refused for now.
            Refusal: if it cannot be handed over; Unreachable if that is not certain.
        """
        ...

    async def find(self, batch: Batch) -> str | None:
        """The name of a batch of which it is not known whether it was handed over; None if not.

        Raises:
            Unreachable: if that cannot be found out.
        """
        ...

    async def ended(
        self, batch: Batch, name: str, folder: Path, seen: Callable[[int], None]
    ) -> Ended:
        """Wait until a batch has ended, and fetch what it left into ``folder``; ``seen`` is told
        how many of its requests are answered meanwhile.

        Raises:
            Full: if it was refused after all, before anything was done.
            Unreachable: if that cannot be found out.
        """
        ...

    def sort(self, status: int, said: str) -> Fault | Refusal:
        """What an HTTP status of a request means, and the words that came with it."""
        ...

    async def close(self) -> None: ...


def write_line(key: str, endpoint: Route, body: bytes) -> bytes:
    """The line of one request; its journal key tells it apart."""
    head = json.dumps({"custom_id": key, "method": "POST", "url": f"/v1{endpoint}"})
    return head[:-1].encode() + b', "body": ' + body + b"}\n"


def read_line(line: bytes, sort: Sort) -> tuple[str, Result] | None:
    """The key of a request and what became of it; None for a line that tells neither."""
    try:
        entry = json.loads(line)
        key, response, error = entry["custom_id"], entry.get("response"), entry.get("error")
        status, body = (response or {}).get("status_code"), (response or {}).get("body")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(key, str):
        return None
    if status == 200:
        return key, _completion(body, len(line))
    return key, _failure(status, body, error, sort)


def _completion(body: Any, size: int) -> Result:
    try:
        return read_completion(lambda: body, size)
    except Fault as fault:
        return fault


def _failure(
    status: object, body: object, error: Mapping[str, Any] | str | None, sort: Sort
) -> Fault | Refusal:
    """Why a request has no answer, and that nothing was billed for it."""
    said = " ".join(json.dumps(body or error, ensure_ascii=False).split())[:MOST_SHOWN]
    if isinstance(status, int) and status >= 400:
        found = sort(status, said)
        return found if isinstance(found, Refusal) else Fault(found.kind, found.reason, False)
    code = error.get("code") if isinstance(error, Mapping) else None
    return Fault("timeout" if code == EXPIRED else "server", f"no answer: {said}", billed=False)
