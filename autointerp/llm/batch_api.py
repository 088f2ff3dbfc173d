"""The Batch API of OpenAI and of those who offer the same: files, batches, their results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, TypeVar

from openai.types import Batch as Remote

from autointerp.llm.batches import Ended, Full, Unreachable
from autointerp.llm.journal_batches import Batch
from autointerp.llm.openai_api import Endpoint
from autointerp.llm.transport import MOST_SHOWN, Fault, Refusal, Route
from autointerp.sections import LLMSection

MARK = "autointerp_batch"  # the batch's metadata that holds our name for it
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
QUEUED = "token_limit_exceeded"  # the error of a batch for which there is no room in the queue
TRIES = 60  # in a row, a poll apart, before the endpoint is given up for this time
MOST_CLOCKS_DIFFER = timedelta(days=1).total_seconds()
PAGE = 100
_ENDPOINTS: dict[Route, Literal["/v1/chat/completions", "/v1/completions"]] = {
    "/chat/completions": "/v1/chat/completions",
    "/completions": "/v1/completions",
}

T = TypeVar("T")
_log = logging.getLogger(__name__)


class BatchAPI:
    """Carries batch files to one endpoint. Faults on the way are waited out."""

    def __init__(self, section: LLMSection, where: str) -> None:
        assert section.waves is not None
        self._where, self._key_variable = where, section.api_key_env
        self._poll = section.waves.poll_seconds
        self._endpoint = Endpoint(section, where, section.base_url, section.timeout)
        self._client = self._endpoint.client

    async def close(self) -> None:
        await self._endpoint.close()

    def sort(self, status: int, said: str) -> Fault | Refusal:
        """What an HTTP status of a request means, and the words that came with it."""
        return self._endpoint.sort(status, said)

    async def submit(self, batch: Batch, file: Path) -> str:
        """Upload the file, and create the batch: once, even if the first answer was lost."""
        try:
            uploaded = await self._patiently(lambda: self._upload(batch, file))
        except Unreachable as refused:  # a file alone does nothing
            raise Refusal(refused.kind, refused.reason) from None
        for _ in range(TRIES):
            try:
                return (await self._endpoint.call(self._create(batch, uploaded))).id
            except Fault as fault:
                if fault.kind == "busy":
                    raise Full(fault.reason) from None
                reason = fault.reason
            _log.warning("%s: %s; looking whether the batch was made", self._where, reason)
            await asyncio.sleep(self._poll)
            made = await self._found(batch)
            if made is not None:
                return made.id
        raise Unreachable("account", f"{self._where}: {reason}; run again to go on")

    async def _upload(self, batch: Batch, file: Path) -> str:
        with file.open("rb") as lines:
            made = await self._client.files.create(
                file=(f"{batch.id}.jsonl", lines, "application/jsonl"), purpose="batch"
            )
        return made.id

    def _create(self, batch: Batch, uploaded: str) -> Awaitable[Remote]:
        return self._client.batches.create(
            input_file_id=uploaded,
            endpoint=_ENDPOINTS[batch.endpoint],
            completion_window="24h",
            metadata={MARK: batch.id},
        )

    async def find(self, batch: Batch) -> str | None:
        """The batch that carries our mark; one that was made a moment ago may not be listed yet."""
        found = await self._found(batch)
        if found is None:
            await asyncio.sleep(self._poll)
            found = await self._found(batch)
        return None if found is None else found.id

    async def _found(self, batch: Batch) -> Remote | None:
        after: str | None = None
        while page := await self._patiently(partial(self._page, after)):
            for remote in page:
                if (remote.metadata or {}).get(MARK) == batch.id:
                    return remote
            last = page[-1]
            if last.id == after or last.created_at < batch.planned - MOST_CLOCKS_DIFFER:
                break
            after = last.id
        return None

    async def _page(self, after: str | None) -> list[Remote]:
        """The batches of the account from there on, the latest first."""
        if after is None:
            return (await self._client.batches.list(limit=PAGE)).data
        return (await self._client.batches.list(limit=PAGE, after=after)).data

    async def ended(
        self, batch: Batch, name: str, folder: Path, seen: Callable[[int], None]
    ) -> Ended:
        """Look at the batch until it has ended, and fetch its output and error files."""
        try:
            return await self._fetched(batch, name, folder, seen)
        except Unreachable as refused:
            if refused.kind == "account":  # it says so itself: run again to go on
                raise
            raise Unreachable(refused.kind, f"{refused.reason}; {self._way_out(name)}") from None

    async def _fetched(
        self, batch: Batch, name: str, folder: Path, seen: Callable[[int], None]
    ) -> Ended:
        while (remote := await self._looked_at(name)).status not in ENDED:
            seen(remote.request_counts.completed if remote.request_counts else 0)
            await asyncio.sleep(self._poll)
        others = _others(remote, f"{self._where}: batch {name}")
        files: list[Path] = []
        for id in (remote.output_file_id, remote.error_file_id):
            if id:
                files.append(folder / f"{batch.id}-{len(files)}.jsonl")
                await self._patiently(partial(self._download, id, files[-1]))
        return Ended(tuple(files), others)

    def _way_out(self, name: str) -> str:
        return (
            f"batch {name} has requests of this run: run again with the key that made it in"
            f" {self._key_variable}, or, if it is gone for good, with a key in another variable,"
            f" named as {self._where}.api_key_env, to ask them anew"
        )

    async def _looked_at(self, name: str) -> Remote:
        return await self._patiently(lambda: self._client.batches.retrieve(name))

    async def _download(self, id: str, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = self._client.files.with_streaming_response.content(id)
        async with content as response:
            with file.open("wb") as kept:
                async for part in response.iter_bytes():
                    kept.write(part)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What ``call`` gives, however often it has to be called.

        Raises:
            Unreachable: if it is refused, or fails for too long.
        """
        for number in count(1):
            try:
                return await self._endpoint.call(call())
            except Fault as fault:
                wait, reason = max(self._poll, fault.retry_after or 0.0), fault.reason
            except Refusal as refusal:
                raise Unreachable(refusal.kind, refusal.reason) from None
            if number == TRIES:
                tried = f"{self._where}: {reason}, {TRIES} times in a row; run again to go on"
                raise Unreachable("account", tried)
            if number == 1:
                _log.warning("%s: %s; trying again every %g s", self._where, reason, wait)
            await asyncio.sleep(wait)
        raise AssertionError("it counts without end")


def _others(remote: Remote, which: str) -> Fault | Refusal:
    """What becomes of the requests of an ended batch that its files say nothing of.

    Raises:
        Full: if it was not begun because too much is queued.
    """
    if remote.status == "failed":
        errors = (remote.errors and remote.errors.data) or []
        said = "; ".join(dict.fromkeys(e.message or e.code or "" for e in errors))[:MOST_SHOWN]
        if any(e.code == QUEUED for e in errors):
            raise Full(f"{which} is refused for now: {said}")
        return Refusal("setup", f"{which} was refused: {said or 'no reason was given'}")
    if remote.status == "cancelled":
        return Refusal("account", f"{which} was cancelled; run again to ask anew for what it lacks")
    if remote.status == "expired":
        return Fault("timeout", f"{which} expired before this was answered", billed=False)
    return Fault("server", f"{which} ended without an answer to this", billed=False)
