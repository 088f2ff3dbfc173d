"""The journal's file: its tables, and how a batch of entries becomes one transaction."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autointerp.latents import AutointerpError
from autointerp.llm.client import TokenLogprob, Usage
from autointerp.llm.transport import Answer

VERSION = 1
LONG = 512  # characters from which an answer is compressed
COMPRESSED = "z"  # begins what is; JSON begins with a brace
BUSY_SECONDS = 60.0  # how long to wait for another process's commit

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, intent INTEGER, run TEXT NOT NULL, model TEXT NOT NULL,
    answered REAL NOT NULL, body TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, dollars REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_run ON replies (run);
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, run TEXT NOT NULL, asked REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, dollars REAL NOT NULL
);
"""
Kind = Literal["intent", "reply", "forgiven"]
_STATEMENTS: Mapping[Kind, Sequence[str]] = {
    "intent": [
        "INSERT INTO intents SELECT "
        + ", ".join(f"json_extract(value, '$[{i}]')" for i in range(7))
        + " FROM json_each(?)"
    ],
    "reply": [
        "INSERT INTO replies SELECT "
        + ", ".join(f"json_extract(value, '$[{i}]')" for i in range(10))
        + " FROM json_each(?) WHERE true ON CONFLICT (key) DO NOTHING",
        "DELETE FROM intents WHERE id IN (SELECT intent FROM replies WHERE key IN"
        " (SELECT json_extract(value, '$[0]') FROM json_each(?)))",
    ],
    "forgiven": [
        "DELETE FROM intents WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(?))"
    ],
}


@dataclass(frozen=True)
class Entry:
    """A row to be written, and the future that tells whether it was kept."""

    kind: Kind
    row: tuple[Any, ...]
    done: asyncio.Future[bool]


def store(connection: sqlite3.Connection, batch: Sequence[Entry]) -> set[str] | None:
    """Commit a batch; the keys whose reply is the one kept, or None if all are."""
    rows: dict[Kind, list[tuple[Any, ...]]] = {}
    for entry in batch:
        rows.setdefault(entry.kind, []).append(entry.row)
    lost = False
    connection.execute("BEGIN IMMEDIATE")
    for kind in _STATEMENTS:  # in this order: an intent may be struck out in its own batch
        if kind not in rows:
            continue
        array = json.dumps(rows[kind])
        for number, statement in enumerate(_STATEMENTS[kind]):
            changed = connection.execute(statement, (array,)).rowcount
            lost |= kind == "reply" and number == 0 and changed < len(rows[kind])
    connection.execute("COMMIT")
    return _kept(connection, rows["reply"]) if lost else None


def _kept(connection: sqlite3.Connection, replies: list[tuple[Any, ...]]) -> set[str]:
    select = "SELECT intent FROM replies WHERE key = ?"
    stands = {row[0]: connection.execute(select, (row[0],)).fetchone()[0] for row in replies}
    return {row[0] for row in replies if stands[row[0]] == row[1]}


def open_file(path: Path) -> sqlite3.Connection:
    """Open the journal, making it if there is none. Raises AutointerpError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
    except (OSError, sqlite3.Error) as error:
        raise AutointerpError(f"cannot open the journal {path}: {error}") from error
    if version not in (0, VERSION):
        raise AutointerpError(
            f"the journal {path} has version {version}, not {VERSION}; set journal to another file"
        )
    return connection


def pack(answer: Answer) -> str:
    """An answer but for its usage, as ASCII: SQLite cannot hold every string that JSON can. Long
    ones, most of all those with log probabilities, are compressed."""
    tokens = answer.logprobs
    logprobs = None if tokens is None else [[t.token, t.logprob, t.top] for t in tokens]
    text = json.dumps({"text": answer.text, "finish": answer.finish, "logprobs": logprobs})
    if len(text) < LONG:
        return text
    return COMPRESSED + base64.b64encode(zlib.compress(text.encode(), 1)).decode()


def unpack(body: str, usage: Usage) -> Answer:
    """The answer that was packed."""
    if body.startswith(COMPRESSED):
        body = zlib.decompress(base64.b64decode(body.removeprefix(COMPRESSED))).decode()
    kept = json.loads(body)
    logprobs = kept["logprobs"]
    if logprobs is not None:
        logprobs = tuple(
            TokenLogprob(token, logprob, tuple((t, p) for t, p in top))
            for token, logprob, top in logprobs
        )
    return Answer(kept["text"], usage, logprobs, kept["finish"])
