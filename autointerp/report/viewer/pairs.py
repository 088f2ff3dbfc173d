"""Two runs' latents side by side, ordered by how much more the second scores."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from autointerp.latents import LatentId
from autointerp.report.viewer.listed import PAGE, Direction, turned

_FILL = """
INSERT INTO pairs (coder, latent, a, b, same)
SELECT ca.name, la.latent, ha.value, hb.value, la.shown = lb.shown
FROM a.latents la
JOIN a.coders ca ON ca.number = la.coder
JOIN b.coders cb ON cb.name = ca.name
JOIN b.latents lb ON lb.coder = cb.number AND lb.latent = la.latent
LEFT JOIN a.headlines ha ON ha.id = la.id
    AND ha.scorer = (SELECT number FROM a.scorers WHERE name = :scorer)
LEFT JOIN b.headlines hb ON hb.id = lb.id
    AND hb.scorer = (SELECT number FROM b.scorers WHERE name = :scorer)
ORDER BY hb.value - ha.value DESC NULLS LAST, la.id
"""


@dataclass(frozen=True)
class Pair:
    """One latent that both runs looked at, and its headlines by the scorer they have in common."""

    place: int
    latent: LatentId
    a: float | None
    b: float | None
    same: bool  # whether both runs say the same of it


@dataclass(frozen=True)
class PairPage:
    """Some pairs in order; ``before`` and ``after`` are the places to go on from, if any."""

    rows: list[Pair]
    before: int | None
    after: int | None


class Pairs:
    """Reads a file of its own, made of two indices; it goes with the object."""

    def __init__(self, a: Path, b: Path, scorer: str | None) -> None:
        self.scorer = scorer
        self._lock = Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="autointerp-view-")
        path = Path(self._folder.name) / "pairs.sqlite"
        self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None, uri=True)
        with self._connection() as c:
            c.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
            for name, index in (("a", a), ("b", b)):
                c.execute(f"ATTACH ? AS {name}", (f"{index.absolute().as_uri()}?mode=ro",))
            c.execute(
                "CREATE TABLE pairs (place INTEGER PRIMARY KEY, coder TEXT, latent INTEGER,"
                " a REAL, b REAL, same INTEGER)"
            )
            c.execute(_FILL, {"scorer": scorer})
            self.count: int = c.execute("SELECT count(*) FROM pairs").fetchone()[0]
            sql = "SELECT count(*), avg(a), avg(b) FROM pairs WHERE a IS NOT NULL AND b IS NOT NULL"
            self.scored, self.mean_a, self.mean_b = c.execute(sql).fetchone()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._file

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
        self._folder.cleanup()

    def page(self, reverse: bool, place: int | None, direction: Direction) -> PairPage:
        """PAGE pairs, the largest gains of the second first; ``reverse`` begins with the largest
        losses, and has only those with a score in both."""
        down = reverse != (direction == "before")
        beyond = f" AND place {'<' if down else '>'} :place" if place is not None else ""
        most = " AND place <= :scored" if reverse else ""
        sql = (
            f"SELECT place, coder, latent, a, b, same FROM pairs WHERE 1{beyond}{most}"
            f" ORDER BY place {'DESC' if down else 'ASC'} LIMIT {PAGE + 1}"
        )
        with self._connection() as c:
            found = c.execute(sql, {"place": place, "scored": self.scored}).fetchall()
        found, back, forth = turned(found, place, direction)
        rows = [Pair(p, LatentId(coder, i), a, b, bool(same)) for p, coder, i, a, b, same in found]
        return PairPage(
            rows,
            before=rows[0].place if back and rows else None,
            after=rows[-1].place if forth and rows else None,
        )
