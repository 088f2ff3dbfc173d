"""The journal: every reply that was paid for, under the hash of what was asked.

One SQLite file in WAL mode, which several processes may share. Before a request is sent an
intent is written, and a reply is handed out only after its commit; an intent without an answer
may have been billed. Commits survive the death of the process, not that of the machine.

Commits are grouped: a writer thread takes all that waits in one transaction, and each table in
one statement over a JSON array, since every statement hands the interpreter's lock back and forth.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import queue
import secrets
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autointerp.latents import AutointerpError, Cost
from autointerp.llm.client import Usage
from autointerp.llm.journal_file import Entry, Kind, open_file, pack, store, unpack
from autointerp.llm.transport import Answer


@dataclass(frozen=True)
class Answered:
    """An answer, and whether it was there before it was asked for."""

    answer: Answer
    journaled: bool


def key_of(where: str, body: bytes, repeat: int) -> str:
    """The journal's key: all that shapes an answer is the endpoint, the body sent, the repeat."""
    digest = hashlib.blake2b(body, digest_size=20, person=b"autointerp-llm-1")
    digest.update(f"\0{where}\0{repeat}".encode())
    return digest.hexdigest()


def default_path() -> Path:
    """``$XDG_CACHE_HOME/autointerp/journal.sqlite``, with ``~/.cache`` for an unset variable."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "autointerp" / "journal.sqlite"


_OF_RUN = "(run = ? OR (run >= ? AND run < ?))"


class Journal:
    """Replies by key, shared by all clients of a run; use it as ``async with``.

    ``run`` names who spends, for ``spent`` and ``possibly_billed``.
    """

    def __init__(self, path: Path | None = None, run: str = "") -> None:
        self.path = path or default_path()
        self.run = run
        self._entries: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._in_flight: dict[str, asyncio.Future[Answer | None]] = {}
        # From a random number on, so that no two processes give the same one.
        self._intents = itertools.count(secrets.randbits(62))

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._reader = open_file(self.path)
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entries.put(None)
        await asyncio.shield(asyncio.to_thread(self._writer.join))
        self._reader.close()

    def find(self, key: str) -> Answer | None:
        """The answer under ``key``, if there is one."""
        row = self._reader.execute(
            "SELECT body, prompt_tokens, cached_tokens, completion_tokens, dollars"
            " FROM replies WHERE key = ?",
            (key,),
        ).fetchone()
        return None if row is None else unpack(row[0], Usage(*row[1:]))

    async def answer(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answered:
        """The answer under ``key``, asked for at most once at a time in this process."""
        while True:
            found = self.find(key)
            if found is not None:
                return Answered(found, journaled=True)
            leader = self._in_flight.get(key)
            if leader is None:
                return Answered(await self._lead(key, ask), journaled=False)
            joined = await asyncio.shield(leader)
            if joined is not None:
                return Answered(joined, journaled=True)

    async def _lead(self, key: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask, and let those who want the same have the answer or the failure."""
        outcome: asyncio.Future[Answer | None] = self._loop.create_future()
        self._in_flight[key] = outcome
        try:
            answer = await ask()
        except asyncio.CancelledError:
            outcome.set_result(None)  # the next one asks
            raise
        except BaseException as error:
            outcome.set_exception(error)
            outcome.exception()  # often nobody else waits
            raise
        else:
            outcome.set_result(answer)
            return answer
        finally:
            del self._in_flight[key]

    async def intend(self, key: str, estimate: Usage) -> int:
        """Write down that ``key`` is about to be asked; the intent's number."""
        intent = next(self._intents)
        counts = (estimate.prompt_tokens, estimate.completion_tokens, estimate.dollars)
        try:
            await self._commit("intent", (intent, key, self.run, time.time(), *counts))
        except asyncio.CancelledError:  # it is written all the same
            self.call_off(intent)
            raise
        return intent

    async def forgive(self, intent: int) -> None:
        """Strike an intent out: the server said that it did not answer, so nothing was billed."""
        await self._commit("forgiven", (intent,))

    def call_off(self, intent: int) -> None:
        """Strike an intent out that was never sent; the commit is not waited for."""
        self._entries.put(Entry("forgiven", (intent,), self._loop.create_future()))

    async def record(self, key: str, intent: int | None, model: str, answer: Answer) -> Answer:
        """Keep ``answer``; what counts is the answer that stands under ``key`` afterwards.

        Another process may have been first: then its answer stands, and this intent remains.
        """
        usage = answer.usage
        counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        row = (key, intent, self.run, model, time.time(), pack(answer), *counts, usage.dollars)
        if await self._commit("reply", row):
            return answer
        return self.find(key) or answer

    def spent(self) -> Cost:
        """What this run, and its shards in folders below its own, have paid for, however often they
        were started."""
        row = self._reader.execute(
            "SELECT count(*), total(prompt_tokens), total(cached_tokens),"
            " total(completion_tokens), total(dollars)"
            f" FROM replies WHERE {_OF_RUN} AND intent IS NOT NULL",
            self._folder,
        ).fetchone()
        requests, prompt, cached, completion = (int(count) for count in row[:4])
        return Cost(requests, prompt, cached, completion, row[4])

    def possibly_billed(self) -> Cost:
        """Requests of the same that were sent and have no answer (yet), at their estimates."""
        row = self._reader.execute(
            "SELECT count(*), total(prompt_tokens), total(completion_tokens), total(dollars)"
            f" FROM intents WHERE {_OF_RUN}",
            self._folder,
        ).fetchone()
        return Cost(int(row[0]), int(row[1]), 0, int(row[2]), row[3])

    @property
    def _folder(self) -> tuple[str, str, str]:
        """The run, and the first and last of what is below it: ``0`` comes after ``/``."""
        return self.run, f"{self.run}/", f"{self.run}0"

    async def _commit(self, kind: Kind, row: tuple[Any, ...]) -> bool:
        done: asyncio.Future[bool] = self._loop.create_future()
        self._entries.put(Entry(kind, row, done))
        return await done

    def _write(self) -> None:
        """The writer thread: commit whatever waits, until told to stop."""
        connection = open_file(self.path)
        running = True
        while running:
            waiting = [self._entries.get()]
            while not self._entries.empty():
                waiting.append(self._entries.get_nowait())
            running = None not in waiting
            batch = [entry for entry in waiting if entry is not None]
            if batch:
                self._commit_batch(connection, batch)
        connection.close()

    def _commit_batch(self, connection: sqlite3.Connection, batch: list[Entry]) -> None:
        error: AutointerpError | None = None
        kept: set[str] | None = None
        try:
            kept = store(connection, batch)
        except sqlite3.Error as problem:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            error = AutointerpError(
                f"cannot write the journal {self.path}: {problem}; free some space, or set journal"
                " elsewhere, and run again to continue"
            )
        self._loop.call_soon_threadsafe(_report, batch, kept, error)


def _report(entries: list[Entry], kept: set[str] | None, error: AutointerpError | None) -> None:
    for entry in entries:
        if entry.done.done():
            continue  # cancelled; the commit stands all the same
        if error is not None:
            entry.done.set_exception(error)
        else:
            entry.done.set_result(kept is None or entry.row[0] in kept)
