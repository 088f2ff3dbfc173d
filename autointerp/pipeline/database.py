"""How the SQLite file of a run's results is opened: to write, to read, and without locks.

One writer, WAL mode. A file of the version before is read, and continued in this one.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autointerp.latents import AutointerpError

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


def to_write(path: Path) -> sqlite3.Connection:
    """Open for writing; made if absent.

    Raises:
        AutointerpError: if the file is not of this schema version.
    """
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        with transaction(connection):
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            _put_version(connection)
    if check_version(connection, path) != SCHEMA_VERSION:
        _put_version(connection)  # that of rows written from now on
    return connection


def to_read(path: Path) -> sqlite3.Connection:
    """Open for reading only.

    Raises:
        AutointerpError: if there is no such file, or it is of another schema version.
    """
    if not path.is_file():
        raise AutointerpError(f"no results at {path}; `autointerp run` makes them")
    uri = f"{path.absolute().as_uri()}?{_access(path)}"
    connection = sqlite3.connect(uri, uri=True, timeout=30)
    connection.execute("PRAGMA query_only=ON")
    check_version(connection, path)
    return connection


def without_locks(path: Path) -> sqlite3.Connection:
    """Open for reading a file that nobody writes meanwhile, on any file system.

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
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    check_version(connection, path)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written in the block, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself gives one up on a full disk
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version.

    Raises:
        AutointerpError: if it is none that this program reads; the file is then closed.
    """
    try:
        row = connection.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise AutointerpError(f"{path} is not a results file ({error})") from error
    version = json.loads(row[0]) if row else None
    if version not in READ_VERSIONS:
        connection.close()
        known = " and ".join(map(str, READ_VERSIONS))
        raise AutointerpError(
            f"{path} has schema version {version}, this program reads {known}; "
            "use another run directory"
        )
    return int(version)


def _put_version(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))


def _access(path: Path) -> str:
    """How SQLite may open a file that is to be read only.

    The last to close a file removes those beside it only if it may write. Where none can be made
    beside it, SQLite reads it only when told that nobody is writing.
    """
    if os.access(path.parent, os.W_OK, effective_ids=True):
        return "mode=rw"
    return "mode=ro" if path.with_name(f"{path.name}-shm").exists() else "immutable=1"
