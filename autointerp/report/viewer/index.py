"""Reads ``view.sqlite``: pages of latents in an order, one latent, and what is like it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import Any

from autointerp.latents import LatentId
from autointerp.report.viewer.facets import (
    Choice,
    coder_word,
    density_choices,
    score_choices,
    status_word,
)
from autointerp.report.viewer.likeness import nearest
from autointerp.report.viewer.listed import (
    COUNTED,
    PAGE,
    Listed,
    Order,
    Page,
    Query,
    Scorer,
    orders_of,
    turned,
)
from autointerp.report.viewer.stream import Headline

CONNECTIONS = 4  # as many requests are answered at a time
_LATENTS = (
    "SELECT id, coder, latent, status, explainer, shown, effect, reason, confidence, density,"
    " maximum FROM latents"
)
_Row = tuple[Any, ...]


class Index:
    """One run's index, for many threads at once. The file may be replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        for _ in range(CONNECTIONS):
            self._idle.put(sqlite3.connect(uri, uri=True, check_same_thread=False))
        with self._connection() as c:
            meta = dict(c.execute("SELECT key, value FROM meta"))
            self.signature: str = meta["signature"]  # of the results that the index was made of
            self.latents: int = c.execute("SELECT max(id) FROM latents").fetchone()[0] or 0
            coders = c.execute("SELECT number, name, hook, latents FROM coders").fetchall()
            statuses = c.execute("SELECT number, name, latents FROM statuses").fetchall()
            scorers = c.execute("SELECT number, name, metric, chance FROM scorers")
            self.scorers = [Scorer(*row) for row in scorers]
            stored = c.execute("SELECT number, value, name, scorer FROM orders ORDER BY number")
            self.orders = orders_of([Order(*row) for row in stored])
        self._names = {number: name for number, name, *_ in coders}
        self._numbers = {name: number for number, name, *_ in coders}
        self.hooks: dict[str, str | None] = {name: hook for _, name, hook, _ in coders}
        self._statuses = {number: name for number, name, _ in statuses}
        self.coders = [
            Choice(name, f"{_place(name, hook)} ({count:,})", (coder_word(number),))
            for number, name, hook, count in coders
        ]
        self.statuses = [
            Choice(name, f"{name.replace('_', ' ')} ({count:,})", (status_word(number),))
            for number, name, count in sorted(statuses, key=lambda row: -row[2])
        ]
        self.scores = {s.name: score_choices(s.number, s.name) for s in self.scorers}
        dense = any(order.value == "density" for order in self.orders)
        self.densities = density_choices() if dense else []

    def close(self) -> None:
        """Once nothing is asked any more."""
        for _ in range(CONNECTIONS):
            self._idle.get().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = self._idle.get()
        try:
            yield connection
        finally:
            self._idle.put(connection)

    def page(self, query: Query) -> Page:
        """The PAGE latents after (or before) a place that match, and how many do in all."""
        n, asked = query.order.number, query.match
        source, column = (f"words_{n}", "rowid") if asked else (f"order_{n}", "place")
        matching = f"words_{n} MATCH :match" if asked else "1"
        with self._connection() as c:
            found = self._places(c, query, f"FROM {source} WHERE {matching}", column)
            places, back, forth = turned(found, query.place, query.direction)
            count = self._count(c, asked, n)
            ids = [_id(c, n, place) for place in places]
            rows = self._rows(c, ids)
        return Page(
            [rows[id] for id in ids],
            count,
            before=places[0] if back and places else None,
            after=places[-1] if forth and places else None,
        )

    @staticmethod
    def _places(c: sqlite3.Connection, query: Query, source: str, column: str) -> list[int]:
        """One more than a page of places, in the direction asked for."""
        down = query.order.reverse != (query.direction == "before")
        way = "DESC" if down else "ASC"
        beyond = f" AND {column} {'<' if down else '>'} :place" if query.place is not None else ""
        given = {"match": query.match, "place": query.place}
        sql = f"SELECT {column} {source}{beyond} ORDER BY {column} {way} LIMIT {PAGE + 1}"
        return [place for (place,) in c.execute(sql, given)]

    def _count(self, c: sqlite3.Connection, asked: str, n: int) -> int:
        if not asked:
            return self.latents
        sql = f"SELECT 1 FROM words_{n} WHERE words_{n} MATCH ? LIMIT {COUNTED + 1}"
        return sum(1 for _ in c.execute(sql, (asked,)))

    def latent(self, latent: LatentId) -> Listed | None:
        """One latent; None if the run has not looked at it."""
        with self._connection() as c:
            id = self._find(c, latent)
            return None if id is None else self._rows(c, [id])[id]

    def known(self, latents: Iterable[LatentId]) -> dict[LatentId, Listed]:
        """Those of some latents that the run has looked at."""
        with self._connection() as c:
            ids = [id for latent in latents if (id := self._find(c, latent)) is not None]
            return {row.latent: row for row in self._rows(c, ids).values()}

    def _find(self, c: sqlite3.Connection, latent: LatentId) -> int | None:
        given = (self._numbers.get(latent.coder, -1), latent.index)
        sql = "SELECT id FROM latents WHERE coder = ? AND latent = ?"
        row = c.execute(sql, given).fetchone()
        return row[0] if row else None

    def next_to(self, row: Listed) -> tuple[LatentId | None, LatentId | None]:
        """The latents before and after one, in the order of coders and indices."""
        with self._connection() as c:
            found = self._rows(c, [row.id - 1, row.id + 1])
        before, after = (found.get(row.id + step) for step in (-1, 1))
        return before.latent if before else None, after.latent if after else None

    def alike(self, row: Listed, most: int = 10) -> list[Listed]:
        """Latents whose explanations share the rarest words of this one's, the likest first."""
        with self._connection() as c:
            ids = nearest(c, row.id, row.text, self.latents, most)
            rows = self._rows(c, ids)
        return [rows[id] for id in ids]

    def _rows(self, c: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Listed]:
        marks = ", ".join("?" * len(ids))
        headlines: dict[int, dict[str, Headline]] = {id: {} for id in ids}
        for scorer in self.scorers:
            sql = f"SELECT id, value, low, high FROM headlines WHERE scorer = ? AND id IN ({marks})"
            for id, *values in c.execute(sql, (scorer.number, *ids)):
                headlines[id][scorer.name] = Headline(*values)
        rows = c.execute(f"{_LATENTS} WHERE id IN ({marks})", ids)
        return {row[0]: self._listed(row, headlines[row[0]]) for row in rows}

    def _listed(self, row: _Row, headlines: dict[str, Headline]) -> Listed:
        id, coder, latent, status, explainer, text, effect, reason, *values = row
        confidence, density, maximum = values
        return Listed(
            id=id,
            latent=LatentId(self._names[coder], latent),
            hook=self.hooks[self._names[coder]],
            status=self._statuses[status],
            explainer=explainer,
            text=text,
            effect=effect,
            reason=reason,
            confidence=confidence,
            density=density,
            maximum=maximum,
            headlines=headlines,
        )


def _place(name: str, hook: str | None) -> str:
    """A coder's name, and where it reads unless the name says so."""
    return name if hook is None or name in hook else f"{name} at {hook}"


def _id(c: sqlite3.Connection, order: int, place: int) -> int:
    found: int = c.execute(f"SELECT id FROM order_{order} WHERE place = ?", (place,)).fetchone()[0]
    return found
