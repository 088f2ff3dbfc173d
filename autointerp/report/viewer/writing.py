"""Writes the tables of ``view.sqlite`` in one pass, in memory that does not grow with the run."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from autointerp.report.viewer.facets import coder_word, density_word, score_word, status_word
from autointerp.report.viewer.schema import FILL_WORDS, FORMAT, PLACES, TABLES, WORDS
from autointerp.report.viewer.stream import Entry

CACHE_KIB = 65_536  # of pages, while the file is made
BLOCK = 10_000  # latents between two signs of progress

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how many


@dataclass(frozen=True)
class ScorerName:
    """What a scorer's headline is called, and the value that guessing has."""

    metric: str
    chance: float


@dataclass(frozen=True)
class Listing:
    """What is written: latents ordered by coder and index, and what they have in common."""

    entries: Iterable[Entry]
    total: int  # about how many entries there are, for the progress alone
    scorers: Mapping[str, ScorerName] = field(default_factory=dict)
    hooks: Mapping[str, str] = field(default_factory=dict)  # by coder


@dataclass(frozen=True)
class Order:
    """One order that latents are listed in; ``query`` gives their ids in it."""

    value: str
    name: str
    query: str
    scorer: int | None = None


def write(index: Path, listing: Listing, progress: Progress, signed: str = "") -> None:
    """Write a new file, which replaces the old one when it is whole."""
    with _replacing(index) as connection:
        connection.executescript(TABLES)
        connection.execute("BEGIN")
        _Writer(connection, listing, progress).write()
        meta = {"format": str(FORMAT), "signature": signed}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        connection.execute("COMMIT")


@contextmanager
def _replacing(index: Path) -> Iterator[sqlite3.Connection]:
    unfinished = index.with_name(f".{index.name}.{os.getpid()}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(unfinished, isolation_level=None)
        try:
            connection.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE;"
                f"PRAGMA cache_size=-{CACHE_KIB}"
            )
            yield connection
        finally:
            connection.close()
        unfinished.replace(index)
    finally:
        unfinished.unlink(missing_ok=True)


class _Writer:
    """Fills the tables of one new file."""

    def __init__(
        self, connection: sqlite3.Connection, listing: Listing, progress: Progress
    ) -> None:
        self._connection = connection
        self._listing = listing
        self._progress = progress
        self._scorers = {name: number for number, name in enumerate(listing.scorers)}
        self._coders: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._with_density = 0

    def write(self) -> None:
        self._take_in()
        self._name_everything()
        self._connection.execute("CREATE UNIQUE INDEX by_place ON latents (coder, latent)")
        orders = list(self._orders())
        for number, order in enumerate(orders):
            self._progress("index", number, len(orders))
            self._index(number, order)
        self._count_words()
        self._progress("index", len(orders), len(orders))

    def _take_in(self) -> None:
        """A row a latent, one a score, and the words to filter by."""
        block: list[Entry] = []
        first = 1
        for entry in self._listing.entries:
            block.append(entry)
            if len(block) == BLOCK:
                self._add(first, block)
                first, block = first + len(block), []
        self._add(first, block)

    def _add(self, first: int, block: list[Entry]) -> None:
        self._coders.update(entry.coder for entry in block)
        self._statuses.update(entry.status for entry in block)
        self._with_density += sum(entry.density is not None for entry in block)
        coders = {name: number for number, name in enumerate(self._coders)}
        statuses = {name: number for number, name in enumerate(self._statuses)}
        numbered = list(enumerate(block, first))
        execute = self._connection.executemany
        execute(
            "INSERT INTO latents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(id, coders[e.coder], e.latent, statuses[e.status], e.explainer),
                    *(e.text, e.effect, e.reason, e.confidence, e.density, e.maximum),
                )
                for id, e in numbered
            ],
        )
        execute(
            "INSERT INTO headlines VALUES (?, ?, ?, ?, ?)",
            [
                (self._scorers[name], id, found.value, found.low, found.high)
                for id, e in numbered
                for name, found in e.headlines.items()
            ],
        )
        execute(
            "INSERT INTO temp.facets VALUES (?, ?)",
            [(id, self._facets(e, coders[e.coder], statuses[e.status])) for id, e in numbered],
        )
        done = first + len(block) - 1
        self._progress("read explanations", done, max(done, self._listing.total))

    def _facets(self, entry: Entry, coder: int, status: int) -> str:
        words = [coder_word(coder), status_word(status)]
        for name, number in self._scorers.items():
            found = entry.headlines.get(name)
            words.append(score_word(number, found.value if found else None))
        if entry.density is not None:
            words.append(density_word(entry.density))
        return " ".join(words)

    def _name_everything(self) -> None:
        execute, hooks = self._connection.executemany, self._listing.hooks
        execute(
            "INSERT INTO coders VALUES (?, ?, ?, ?)",
            [(n, name, hooks.get(name), self._coders[name]) for n, name in enumerate(self._coders)],
        )
        execute(
            "INSERT INTO statuses VALUES (?, ?, ?)",
            [(n, name, self._statuses[name]) for n, name in enumerate(self._statuses)],
        )
        execute(
            "INSERT INTO scorers VALUES (?, ?, ?, ?)",
            [
                (n, name, about.metric, about.chance)
                for n, (name, about) in enumerate(self._listing.scorers.items())
            ],
        )

    def _orders(self) -> Iterator[Order]:
        yield Order("latent", "latent", "SELECT id FROM latents ORDER BY id")
        for name, number in self._scorers.items():
            query = (
                "SELECT l.id FROM latents l LEFT JOIN headlines h"
                f" ON h.scorer = {number} AND h.id = l.id ORDER BY h.value DESC NULLS LAST, l.id"
            )
            yield Order(name, name, query, scorer=number)
        if self._with_density:
            query = "SELECT id FROM latents ORDER BY density DESC NULLS LAST, id"
            yield Order("density", "density", query)

    def _index(self, number: int, order: Order) -> None:
        """The latents in their order, and the words of their explanations."""
        execute = self._connection.execute
        row = (number, order.value, order.name, order.scorer)
        execute("INSERT INTO orders VALUES (?, ?, ?, ?)", row)
        execute(PLACES.format(n=number))
        execute(f"INSERT INTO order_{number} (id) {order.query}")
        execute(WORDS.format(n=number))
        execute(f"INSERT INTO words_{number} (words_{number}, rank) VALUES ('hashsize', 33554432)")
        execute(FILL_WORDS.format(n=number))
        execute(f"INSERT INTO words_{number} (words_{number}) VALUES ('optimize')")

    def _count_words(self) -> None:
        """In how many latents each word is, for telling which ones say most."""
        execute = self._connection.execute
        execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab('main', 'words_0', 'col')")
        execute(
            "INSERT INTO vocabulary SELECT term, sum(doc) FROM temp.terms"
            " WHERE col != 'facets' GROUP BY term"
        )
