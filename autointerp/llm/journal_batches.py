"""Which batch holds which requests, kept beside the replies in the journal's file.

A batch is written down before it is handed over, and struck out once all that it brought is in
the journal. So a run that was killed finds its batches again, and asks for nothing twice.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from autointerp.latents import AutointerpError
from autointerp.llm.journal_file import open_file
from autointerp.llm.transport import Route

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, run TEXT NOT NULL, place TEXT NOT NULL, endpoint TEXT NOT NULL,
    planned REAL NOT NULL, name TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_requests (
    batch TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (batch, key)
) WITHOUT ROWID;
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """A file of requests to one endpoint. ``id`` is ours; ``name`` is the server's, once known.

    ``planned`` is in seconds since 1970.
    """

    id: str
    endpoint: Route
    planned: float
    name: str | None = None


class BatchBook:
    """The open batches of one run at one place: a server, its model and an account there."""

    def __init__(self, path: Path, run: str, place: str) -> None:
        self.path, self.run, self.place = path, run, place

    async def plan(self, id: str, endpoint: Route, keys: Sequence[str]) -> Batch:
        """Write down that a batch with the requests of these ``keys`` is about to be sent."""
        batch = Batch(id, endpoint, time.time())

        def write(file: sqlite3.Connection) -> None:
            row = (id, self.run, self.place, endpoint, batch.planned)
            file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, NULL)", row)
            requests = ((id, key) for key in keys)
            file.executemany("INSERT INTO batch_requests VALUES (?, ?)", requests)

        await self._commit(write)
        return batch

    async def named(self, id: str, name: str) -> None:
        """Keep the name that the server gave a batch."""
        update = "UPDATE batches SET name = ? WHERE id = ?"
        await self._commit(lambda file: file.execute(update, (name, id)))

    async def close(self, id: str) -> None:
        """Strike a batch out: nothing more is to be had from it."""

        def write(file: sqlite3.Connection) -> None:
            file.execute("DELETE FROM batch_requests WHERE batch = ?", (id,))
            file.execute("DELETE FROM batches WHERE id = ?", (id,))

        await self._commit(write)

    async def open(self) -> list[Batch]:
        """The batches that are not struck out, the earliest first."""
        select = (
            "SELECT id, endpoint, planned, name FROM batches"
            " WHERE run = ? AND place = ? ORDER BY planned"
        )
        values = (self.run, self.place)
        rows = await self._commit(lambda file: file.execute(select, values).fetchall())
        return [Batch(*row) for row in rows]

    async def intents(self, batch: Batch) -> dict[str, int]:
        """The intents of a batch's requests that have no answer yet, by key."""
        select = (
            "SELECT intents.key, max(intents.id) FROM intents JOIN batch_requests"
            " ON batch_requests.batch = ? AND batch_requests.key = intents.key"
            " WHERE intents.run = ? AND intents.asked >= ? GROUP BY intents.key"
        )
        values = (batch.id, self.run, batch.planned)
        return dict(await self._commit(lambda file: file.execute(select, values).fetchall()))

    async def _commit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in one transaction, away from the event loop."""
        return await asyncio.to_thread(self._committed, work)

    def _committed(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(open_file(self.path)) as file:
            try:
                file.executescript(_SCHEMA)
                file.execute("BEGIN IMMEDIATE")
                done = work(file)
                file.execute("COMMIT")
            except sqlite3.Error as error:
                raise AutointerpError(f"cannot write the journal {self.path}: {error}") from error
        return done
