"""The run's SQLite file: explanations, scores and controls, and the settings they hold under.

One writer, WAL mode, one transaction per latent and stage: what is in the file is whole,
whenever the process was killed. Readers open their own connection.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.pipeline.rows import (
    EXPLANATION_COLUMNS,
    LIGHT_SCORE_COLUMNS,
    Scored,
    explanation_row,
    read_explanation,
    read_scored,
    score_row,
)

SCHEMA_VERSION = 3
READ_VERSIONS = (2, SCHEMA_VERSION)  # the outcomes of version 2 name no requests

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE settings (field TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE explanations (
    coder TEXT, latent INTEGER, kind TEXT, explainer TEXT,
    text TEXT NOT NULL, status TEXT NOT NULL, reason TEXT,
    components TEXT NOT NULL, confidence REAL, cost TEXT NOT NULL, details BLOB NOT NULL,
    PRIMARY KEY (coder, latent, kind, explainer)) WITHOUT ROWID;
CREATE TABLE scores (
    coder TEXT, latent INTEGER, explanation TEXT, scorer TEXT, control TEXT,
    judge TEXT NOT NULL, headline TEXT NOT NULL, chance REAL NOT NULL, metrics TEXT NOT NULL,
    status TEXT NOT NULL, reason TEXT, cost TEXT NOT NULL, details TEXT NOT NULL,
    outcomes BLOB NOT NULL,
    PRIMARY KEY (coder, latent, explanation, scorer, control));
"""


class Watcher(Protocol):
    """Told of every row; ``before`` is the status of the row that it replaced, if there was one."""

    def explained(self, explanation: Explanation, before: str | None) -> None: ...

    def scored(self, scored: Scored, before: str | None) -> None: ...


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
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        results = cls(connection, path)
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            with results._transaction():
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                results._put_meta("schema", SCHEMA_VERSION)
        if results._check_version() != SCHEMA_VERSION:
            results._put_meta("schema", SCHEMA_VERSION)  # that of rows written from now on
        return results

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open for reading only.

        Raises:
            AutointerpError: if there is no such file, or it is of another schema version.
        """
        if not path.is_file():
            raise AutointerpError(f"no results at {path}; `autointerp run` makes them")
        uri = f"{path.absolute().as_uri()}?{_access(path)}"
        connection = sqlite3.connect(uri, uri=True, timeout=30)
        connection.execute("PRAGMA query_only=ON")
        results = cls(connection, path)
        results._check_version()
        return results

    @classmethod
    def frozen(cls, path: Path) -> Self:
        """Open for reading a file that nobody writes meanwhile, on any file system: without locks.

        Raises:
            AutointerpError: if there is no such file, or somebody may be writing it.
        """
        if not path.is_file():
            raise AutointerpError(f"no results at {path}; `autointerp merge` makes them of shards")
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise AutointerpError(
                f"{path} is being written, or was when its process was killed; wait, or run the"
                " interrupted command again"
            )
        uri = f"{path.absolute().as_uri()}?immutable=1"
        results = cls(sqlite3.connect(uri, uri=True), path)
        results._check_version()
        return results

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
        stored = self.check_settings(settings)
        with self._transaction():
            if not stored:
                self._connection.execute("DELETE FROM settings")
            self._connection.executemany(
                "INSERT OR IGNORE INTO settings VALUES (?, ?)",
                [(name, json.dumps(_plain(value))) for name, value in settings.items()],
            )

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
        before = self._before(explanation)
        with self._transaction():
            self._insert("explanations", explanation_row(explanation))
        if self.watcher:
            self.watcher.explained(explanation, before)

    def replace_explanation(self, explanation: Explanation) -> None:
        """Store one latent's explanation over that of the same id, if there is one; unless the
        text is the same, its scores go with it."""
        e = explanation
        place = {"coder": e.latent.coder, "latent": e.latent.index, "kind": e.kind}
        given = {**place, "explainer": e.explainer, "id": e.id, "text": e.text}
        before = self._before(e)
        with self._transaction():
            self._connection.execute(_OUTDATED, given)
            self._insert("explanations", explanation_row(e))
        if self.watcher:
            self.watcher.explained(e, before)

    def _before(self, e: Explanation) -> str | None:
        """The status of the explanation that is stored in this one's place."""
        row = self._connection.execute(
            "SELECT status FROM explanations WHERE (coder, latent, kind, explainer) = (?, ?, ?, ?)",
            (e.latent.coder, e.latent.index, e.kind, e.explainer),
        ).fetchone()
        return row[0] if row else None

    def note(self, key: str, value: Any) -> None:
        """Keep one value, in JSON's types, over that of the same key."""
        with self._transaction():
            self._put_meta(f"note {key}", value)

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
        before = [self._score_before(s) for s in scores]
        with self._transaction():
            for scored in scores:
                self._insert("scores", score_row(scored))
        for scored, status in zip(scores, before, strict=True):
            if self.watcher:
                self.watcher.scored(scored, status)

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

    def _score_before(self, scored: Scored) -> str | None:
        s = scored.score
        row = self._connection.execute(
            "SELECT status FROM scores WHERE (coder, latent, explanation, scorer, control)"
            " = (?, ?, ?, ?, ?)",
            (s.latent.coder, s.latent.index, s.explanation or "", s.scorer, scored.control),
        ).fetchone()
        return row[0] if row else None

    def has_score(self, explanation: str, scorer: str, control: str) -> bool:
        """Whether there is a score, failed or not; one look-up, however many there are."""
        latent = LatentId.parse(explanation.rsplit(":", 2)[0])
        row = self._connection.execute(
            "SELECT 1 FROM scores WHERE (coder, latent, explanation, scorer, control)"
            " = (?, ?, ?, ?, ?)",
            (latent.coder, latent.index, explanation, scorer, control),
        ).fetchone()
        return row is not None

    def put_rows(self, table: Literal["explanations", "scores"], rows: Iterable[Any]) -> int:
        """Store rows as they are in another file's table over those of the same keys, all or none
        of them; how many there were. Scores of texts that they replace go with those."""
        count = 0
        with self._transaction():
            for row in rows:
                if table == "explanations":
                    coder, latent, kind, explainer, text = row[:5]
                    place = {"coder": coder, "latent": latent, "kind": kind, "text": text}
                    given = {"explainer": explainer, "id": f"{coder}/{latent}:{kind}:{explainer}"}
                    self._connection.execute(_OUTDATED, place | given)
                self._insert(table, row)
                count += 1
        return count

    def query(self, sql: str, given: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query over the tables above, one at a time: for who reads all of a run and
        holds none of it."""
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

    def _put_meta(self, key: str, value: Any) -> None:
        self._insert("meta", (key, json.dumps(value)))

    def _check_version(self) -> int:
        try:
            row = self._connection.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        except sqlite3.DatabaseError as error:
            self.close()
            raise AutointerpError(f"{self.path} is not a results file ({error})") from error
        version = json.loads(row[0]) if row else None
        if version not in READ_VERSIONS:
            self.close()
            raise AutointerpError(
                f"{self.path} has schema version {version}, this program reads {SCHEMA_VERSION}; "
                "use another run directory"
            )
        return int(version)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # SQLite itself gives one up on a full disk
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _access(path: Path) -> str:
    """How SQLite may open a file that is to be read only.

    The last to close a file removes those beside it only if it may write. Where none can be made
    beside it, SQLite reads it only when told that nobody is writing.
    """
    if os.access(path.parent, os.W_OK, effective_ids=True):
        return "mode=rw"
    return "mode=ro" if path.with_name(f"{path.name}-shm").exists() else "immutable=1"


def _plain(value: Any) -> Any:
    """A value as JSON gives it back, so that tuples and lists compare equal."""
    return json.loads(json.dumps(value))


def _where(wanted: Mapping[str, Any], latent: LatentId | None) -> tuple[str, dict[str, Any]]:
    """A condition for those columns that are not None, and its parameters."""
    place = {} if latent is None else {"coder": latent.coder, "latent": latent.index}
    given = {key: value for key, value in {**wanted, **place}.items() if value is not None}
    return " AND ".join(f"{key} = :{key}" for key in given) or "1", given


_OUTDATED = """
DELETE FROM scores WHERE coder = :coder AND latent = :latent AND explanation = :id AND EXISTS (
    SELECT 1 FROM explanations WHERE coder = :coder AND latent = :latent AND kind = :kind
    AND explainer = :explainer AND text != :text)
"""
