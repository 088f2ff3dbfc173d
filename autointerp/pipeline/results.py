"""The run's SQLite file: explanations, scores and controls, and the settings they hold under.

One writer, WAL mode, one transaction per latent and stage: what is in the file is whole,
whenever the process was killed. Readers open their own connection.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.pipeline import database
from autointerp.pipeline.rows import (
    EXPLANATION_COLUMNS,
    LIGHT_SCORE_COLUMNS,
    Scored,
    explanation_row,
    read_explanation,
    read_scored,
    score_row,
)

Row = Explanation | Scored


class Watcher(Protocol):
    """Told of every row that is written, and of those that go for it."""

    def count(self, row: Row, change: Literal[1, -1]) -> None: ...


class Results:
    """Reads and writes one ``results.sqlite``. Not shared between threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self.watcher: Watcher | None = None  # told of what is written from now on

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for writing; made if absent.

        Raises:
            AutointerpError: if the file is not of this schema version.
        """
        return cls(database.to_write(path), path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open for reading only.

        Raises:
            AutointerpError: if there is no such file, or it is of another schema version.
        """
        return cls(database.to_read(path), path)

    @classmethod
    def frozen(cls, path: Path) -> Self:
        """Open for reading a file that nobody writes meanwhile, on any file system: without locks.

        Raises:
            AutointerpError: if there is no such file, or somebody may be writing it.
        """
        return cls(database.without_locks(path), path)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hold_settings(self, settings: Mapping[str, Any]) -> None:
        """Store the settings that rows depend on; new fields join those already there.

        Without any rows there is nothing to depend on them, and they replace what was there.

        Raises:
            AutointerpError: naming the first field that differs, and both its values.
        """
        self.put_settings({**settings, **self.check_settings(settings)})

    def put_settings(self, settings: Mapping[str, Any]) -> None:
        """Store these settings in place of all that are there; nothing is written if they are."""
        wanted = {name: _plain(value) for name, value in settings.items()}
        if wanted == self.settings():
            return
        rows = [(name, json.dumps(value)) for name, value in wanted.items()]
        with database.transaction(self._connection):
            self._connection.execute("DELETE FROM settings")
            self._connection.executemany("INSERT INTO settings VALUES (?, ?)", rows)

    def check_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that rows depend on, as they are stored; none without rows.

        Raises:
            AutointerpError: naming the first of ``settings`` that differs, and both its values.
        """
        stored = self.settings() if self.has_rows() else {}
        for name, value in settings.items():
            if name in stored and stored[name] != _plain(value):
                raise AutointerpError(
                    f"{self.path.parent} holds results of {name} = {json.dumps(stored[name])}, and "
                    f"this configuration says {json.dumps(_plain(value))}; "
                    "choose another run.name, or the old value"
                )
        return stored

    @property
    def written(self) -> int:
        """How many rows of any table this connection has written."""
        return self._connection.total_changes

    def has_rows(self) -> bool:
        """Whether there is any explanation or score."""
        query = "SELECT EXISTS (SELECT 1 FROM explanations) OR EXISTS (SELECT 1 FROM scores)"
        return bool(self._connection.execute(query).fetchone()[0])

    def settings(self) -> dict[str, Any]:
        rows = self._connection.execute("SELECT field, value FROM settings")
        return {name: json.loads(value) for name, value in rows}

    def put_explanation(self, explanation: Explanation) -> None:
        """Store one latent's explanation, over a failed one of the same id."""
        e = explanation
        with database.transaction(self._connection):
            gone = self._stored(e.latent, e.kind, e.explainer)
            self._insert("explanations", explanation_row(e))
        self._tell(gone, [e])

    def replace_explanation(self, explanation: Explanation) -> None:
        """Store one latent's explanation over that of the same id, if there is one; unless the
        text is the same, its scores go with it."""
        with database.transaction(self._connection):
            gone = self._replace(explanation_row(explanation))
        self._tell(gone, [explanation])

    def _replace(self, row: Sequence[Any]) -> list[Row]:
        """Returns the explanation that it takes the place of, and the scores that go."""
        coder, index, kind, explainer, text = row[:5]
        gone = self._stored(LatentId(coder, index), kind, explainer)
        scores = [s for e in gone if e.text != text for s in self._take_scores(e)]
        self._insert("explanations", row)
        return [*gone, *scores]

    def _stored(self, latent: LatentId, kind: str, explainer: str) -> list[Explanation]:
        """The explanation of one id, if there is one, less its details."""
        return [e for e in self.of([latent], explainer) if e.kind == kind]

    def _take_scores(self, e: Explanation) -> list[Scored]:
        """Remove the scores of an explanation; returns them."""
        key = (e.latent.coder, e.latent.index, e.id)
        where = "FROM scores WHERE (coder, latent, explanation) = (?, ?, ?)"
        rows = self._connection.execute(f"SELECT {LIGHT_SCORE_COLUMNS} {where}", key).fetchall()
        self._connection.execute(f"DELETE {where}", key)
        return list(map(read_scored, rows))

    def _tell(self, gone: Iterable[Row], written: Iterable[Row]) -> None:
        if self.watcher:
            for row in gone:
                self.watcher.count(row, -1)
            for row in written:
                self.watcher.count(row, 1)

    def note(self, key: str, value: Any) -> None:
        """Keep one value, in JSON's types, over that of the same key."""
        with database.transaction(self._connection):
            self._insert("meta", (f"note {key}", json.dumps(value)))

    def noted(self, key: str) -> Any:
        """What was last noted under a key; None if nothing was."""
        query = "SELECT value FROM meta WHERE key = ?"
        row = self._connection.execute(query, (f"note {key}",)).fetchone()
        return json.loads(row[0]) if row else None

    def explanations(
        self, explainer: str | None = None, latent: LatentId | None = None, details: bool = False
    ) -> list[Explanation]:
        """All explanations (of one explainer, of one latent), ordered by latent; ``details``
        are unpacked only if asked for."""
        where, given = _where({"explainer": explainer}, latent)
        rows = self._connection.execute(
            f"SELECT {EXPLANATION_COLUMNS}, {'details' if details else 'NULL'} FROM explanations"
            f" WHERE {where} ORDER BY coder, latent, kind, explainer",
            given,
        )
        return [read_explanation(row) for row in rows]

    def of(self, latents: Iterable[LatentId], explainer: str) -> Iterator[Explanation]:
        """One explainer's explanations of these latents, less their details. Those of one coder
        that follow one another are read together, and come by ascending index."""
        for coder, group in groupby(latents, key=lambda latent: latent.coder):
            rows = self._connection.execute(
                f"SELECT {EXPLANATION_COLUMNS}, NULL FROM explanations WHERE coder = ? AND latent"
                " IN (SELECT value FROM json_each(?)) AND explainer = ? ORDER BY latent, kind",
                (coder, json.dumps([latent.index for latent in group]), explainer),
            )
            yield from map(read_explanation, rows.fetchall())

    def bytes_held(self) -> int:
        """The size of the tables, wherever SQLite has them yet."""
        query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        return int(self._connection.execute(query).fetchone()[0])

    def statuses(self, explainer: str) -> dict[str, int]:
        """How many explanations of one explainer there are by status; cheap however many."""
        return dict(
            self._connection.execute(
                "SELECT status, count(*) FROM explanations WHERE explainer = ? GROUP BY status"
                " ORDER BY status",
                (explainer,),
            )
        )

    def put_scores(self, scores: Sequence[Scored]) -> None:
        """Store all scores of one latent in one transaction."""
        with database.transaction(self._connection):
            gone = [old for scored in scores for old in self._put_score(score_row(scored))]
        self._tell(gone, scores)

    def _put_score(self, row: Sequence[Any]) -> list[Row]:
        """Returns the score that it takes the place of."""
        gone = self._connection.execute(
            f"SELECT {LIGHT_SCORE_COLUMNS} FROM scores"
            " WHERE (coder, latent, explanation, scorer, control) = (?, ?, ?, ?, ?)",
            row[:5],
        ).fetchall()
        self._insert("scores", row)
        return [read_scored(old) for old in gone]

    def scores(
        self, scorer: str | None = None, latent: LatentId | None = None, outcomes: bool = False
    ) -> Iterator[Scored]:
        """Scores and controls, ordered by latent; ``outcomes`` are unpacked only if asked for."""
        where, given = _where({"scorer": scorer}, latent)
        columns = "*" if outcomes else LIGHT_SCORE_COLUMNS
        for row in self._connection.execute(
            f"SELECT {columns} FROM scores WHERE {where} ORDER BY coder, latent, scorer, control",
            given,
        ):
            yield read_scored(row)

    def has_score(self, explanation: str, scorer: str, control: str) -> bool:
        """Whether there is a score, failed or not; one look-up, however many there are."""
        latent = LatentId.parse(explanation.rsplit(":", 2)[0])
        row = self._connection.execute(
            "SELECT 1 FROM scores WHERE (coder, latent, explanation, scorer, control)"
            " = (?, ?, ?, ?, ?)",
            (latent.coder, latent.index, explanation, scorer, control),
        ).fetchone()
        return row is not None

    def has_scores(self, scorer: str) -> bool:
        """Whether there is any score by this scorer."""
        query = "SELECT EXISTS (SELECT 1 FROM scores WHERE scorer = ?)"
        return bool(self._connection.execute(query, (scorer,)).fetchone()[0])

    def put_rows(self, table: Literal["explanations", "scores"], rows: Iterable[Any]) -> int:
        """Store rows as they are in another file's table over those of the same keys, all or none
        of them; how many there were. Scores of texts that they replace go with those."""
        of_texts = table == "explanations"
        put = self._replace if of_texts else self._put_score
        read: Callable[[Sequence[Any]], Row] = read_explanation if of_texts else read_scored
        count = 0
        with database.transaction(self._connection):
            for row in rows:
                light = (*row[:-1], None)  # the last column is packed
                self._tell(put(row), map(read, [light]))
                count += 1
        return count

    def query(self, sql: str, given: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query over the tables of ``database``, one at a time: for who reads all of
        a run and holds none of it."""
        yield from self._connection.execute(sql, given)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """All that is read in the block is of one moment, whoever writes meanwhile."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    def _insert(self, table: str, row: Sequence[Any]) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)


def _plain(value: Any) -> Any:
    """A value as JSON gives it back, so that tuples and lists compare equal."""
    return json.loads(json.dumps(value))


def _where(wanted: Mapping[str, Any], latent: LatentId | None) -> tuple[str, dict[str, Any]]:
    """A condition for those columns that are not None, and its parameters."""
    place = {} if latent is None else {"coder": latent.coder, "latent": latent.index}
    given = {key: value for key, value in {**wanted, **place}.items() if value is not None}
    return " AND ".join(f"{key} = :{key}" for key in given) or "1", given
