"""The run's SQLite file: explanations, scores and controls, and the settings they hold under.

One writer, WAL mode, one transaction per latent and stage: what is in the file is whole,
whenever the process was killed. Readers open their own connection. Outcomes are one
compressed blob a score, not rows.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from autointerp.latents import (
    AutointerpError,
    Choice,
    Cost,
    Explanation,
    Failure,
    Label,
    LatentId,
    Metric,
    Number,
    Outcome,
    Score,
    Values,
)

SCHEMA_VERSION = 2
TRUE = ""  # the control column of a score of the latent's own explanation

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


@dataclass(frozen=True)
class Scored:
    """A score, and which control it is; ``control`` is ``""`` for the true explanation."""

    score: Score
    control: str = TRUE


class Results:
    """Reads and writes one ``results.sqlite``. Not shared between threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path

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
        results._check_version()
        return results

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open for reading only.

        Raises:
            AutointerpError: if there is no such file, or it is of another schema version.
        """
        if not path.is_file():
            raise AutointerpError(f"no results at {path}; `autointerp run` makes them")
        results = cls(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30), path)
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
        stored = self.settings() if self.has_rows() else {}
        for name, value in settings.items():
            if name in stored and stored[name] != _plain(value):
                raise AutointerpError(
                    f"{self.path.parent} holds results of {name} = {json.dumps(stored[name])}, and "
                    f"this configuration says {json.dumps(_plain(value))}; "
                    "choose another run.name, or the old value"
                )
        with self._transaction():
            if not stored:
                self._connection.execute("DELETE FROM settings")
            self._connection.executemany(
                "INSERT OR IGNORE INTO settings VALUES (?, ?)",
                [(name, json.dumps(_plain(value))) for name, value in settings.items()],
            )

    def has_rows(self) -> bool:
        """Whether there is any explanation or score."""
        query = "SELECT EXISTS (SELECT 1 FROM explanations) OR EXISTS (SELECT 1 FROM scores)"
        return bool(self._connection.execute(query).fetchone()[0])

    def settings(self) -> dict[str, Any]:
        rows = self._connection.execute("SELECT field, value FROM settings")
        return {name: json.loads(value) for name, value in rows}

    def put_explanation(self, explanation: Explanation) -> None:
        """Store one latent's explanation, over a failed one of the same id."""
        with self._transaction():
            self._insert("explanations", _explanation_row(explanation))

    def replace_explanation(self, explanation: Explanation) -> None:
        """Store one latent's explanation over that of the same id, if there is one; unless the
        text is the same, its scores go with it."""
        e = explanation
        place = {"coder": e.latent.coder, "latent": e.latent.index, "kind": e.kind}
        given = {**place, "explainer": e.explainer, "id": e.id, "text": e.text}
        with self._transaction():
            self._connection.execute(_OUTDATED, given)
            self._insert("explanations", _explanation_row(e))

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
            f"SELECT {_EXPLANATION}, {'details' if details else 'NULL'} FROM explanations"
            f" WHERE {where} ORDER BY coder, latent, kind, explainer",
            given,
        )
        return [_explanation(row) for row in rows]

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
        with self._transaction():
            for scored in scores:
                self._insert("scores", _score_row(scored))

    def scores(
        self, scorer: str | None = None, latent: LatentId | None = None, outcomes: bool = False
    ) -> Iterator[Scored]:
        """Scores and controls, ordered by latent; ``outcomes`` are unpacked only if asked for."""
        where, given = _where({"scorer": scorer}, latent)
        columns = "*" if outcomes else _LIGHT
        for row in self._connection.execute(
            f"SELECT {columns} FROM scores WHERE {where} ORDER BY coder, latent, scorer, control",
            given,
        ):
            yield _scored(row)

    def score_keys(self) -> set[tuple[str, str, str]]:
        """(explanation id, scorer, control) of every score that did not fail."""
        rows = self._connection.execute(
            "SELECT explanation, scorer, control FROM scores WHERE status != 'failed'"
        )
        return set(rows)

    def _insert(self, table: str, row: Sequence[Any]) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)

    def _put_meta(self, key: str, value: Any) -> None:
        self._insert("meta", (key, json.dumps(value)))

    def _check_version(self) -> None:
        try:
            row = self._connection.execute("SELECT value FROM meta WHERE key='schema'").fetchone()
        except sqlite3.DatabaseError as error:
            raise AutointerpError(f"{self.path} is not a results file ({error})") from error
        version = json.loads(row[0]) if row else None
        if version != SCHEMA_VERSION:
            raise AutointerpError(
                f"{self.path} has schema version {version}, this program reads {SCHEMA_VERSION}; "
                "use another run directory"
            )

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
_EXPLANATION = "coder, latent, kind, explainer, text, status, reason, components, confidence, cost"


def _explanation_row(e: Explanation) -> tuple[Any, ...]:
    return (
        *(e.latent.coder, e.latent.index, e.kind, e.explainer, e.text, e.status, e.reason),
        *(json.dumps(e.components), e.confidence, json.dumps(asdict(e.cost))),
        zlib.compress(json.dumps(dict(e.details), separators=(",", ":")).encode(), 6),
    )


def _explanation(row: Sequence[Any]) -> Explanation:
    coder, index, kind, explainer, text, status, reason, components, confidence, cost, packed = row
    return Explanation(
        latent=LatentId(coder, index),
        kind=kind,
        explainer=explainer,
        text=text,
        status=status,
        reason=reason,
        components=tuple(json.loads(components)),
        confidence=confidence,
        cost=Cost(**json.loads(cost)),
        details={} if packed is None else json.loads(zlib.decompress(packed)),
    )


_LIGHT = (
    "coder, latent, explanation, scorer, control, judge, headline, chance, metrics, "
    "status, reason, cost, details, NULL"
)


def _score_row(scored: Scored) -> tuple[Any, ...]:
    s = scored.score
    metrics = {name: [m.value, m.low, m.high, m.n] for name, m in s.metrics.items()}
    return (
        *(s.latent.coder, s.latent.index, s.explanation or "", s.scorer, scored.control),
        *(s.judge, s.headline, s.chance, json.dumps(metrics), s.status, s.reason),
        *(json.dumps(asdict(s.cost)), json.dumps(dict(s.details)), pack_outcomes(s.outcomes)),
    )


def _scored(row: Sequence[Any]) -> Scored:
    coder, index, explanation, scorer, control, judge, headline, chance = row[:8]
    metrics, status, reason, cost, details, outcomes = row[8:]
    score = Score(
        latent=LatentId(coder, index),
        explanation=explanation or None,
        scorer=scorer,
        judge=judge,
        headline=headline,
        chance=chance,
        metrics={name: Metric(*values) for name, values in json.loads(metrics).items()},
        outcomes=unpack_outcomes(outcomes) if outcomes is not None else (),
        status=status,
        reason=reason,
        cost=Cost(**json.loads(cost)),
        details=json.loads(details),
    )
    return Scored(score, control)


_OUTCOMES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Label, Choice, Values, Number, Failure)
}


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Outcomes as columns by kind, with their places, compressed."""
    columns: dict[str, dict[str, list[Any]]] = {}
    for place, outcome in enumerate(outcomes):
        kind = columns.setdefault(type(outcome).__name__, {"place": []})
        kind["place"].append(place)
        for name in type(outcome).__dataclass_fields__:
            kind.setdefault(name, []).append(getattr(outcome, name))
    return zlib.compress(json.dumps(columns, separators=(",", ":")).encode(), 6)


def unpack_outcomes(blob: bytes) -> list[Outcome]:
    """The outcomes of :func:`pack_outcomes`, in their order."""
    columns: dict[str, dict[str, list[Any]]] = json.loads(zlib.decompress(blob))
    placed: dict[int, Outcome] = {}
    for name, kind in columns.items():
        fields = [field for field in kind if field != "place"]
        for place, *values in zip(kind["place"], *(kind[f] for f in fields), strict=True):
            placed[place] = _OUTCOMES[name](
                **{
                    f: tuple(v) if isinstance(v, list) else v
                    for f, v in zip(fields, values, strict=True)
                }
            )
    return [placed[place] for place in sorted(placed)]
