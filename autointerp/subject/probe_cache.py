"""What one coder said of one text, kept in memory and on disk."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError

_WAIT = 30.0  # seconds for another process's write
_FORMAT = "1"  # part of every key: of the blob and of the rounding of values


class Probe(NamedTuple):
    """A text, asked of a coder."""

    coder: str
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """Every latent of a coder on one text: position i's are ``starts[i]`` to ``starts[i + 1]``."""

    token_ids: NDArray[np.int32]  # [n]
    starts: NDArray[np.int32]  # [n + 1]
    latents: NDArray[np.int32]  # [m]
    values: NDArray[np.float32]  # [m]

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return 4 * (2 * len(self.token_ids) + 1 + 2 * len(self.values))

    def of(self, latent: int) -> NDArray[np.float32]:
        """Activations of one latent; [n], zero where it is inactive."""
        activations = np.zeros(len(self.token_ids), np.float32)
        hits = np.flatnonzero(self.latents == latent)
        activations[np.searchsorted(self.starts, hits, "right") - 1] = self.values[hits]
        return activations

    def to_bytes(self) -> bytes:
        n = np.array([len(self.token_ids)], np.int32)
        parts = (n, self.token_ids, self.starts, self.latents, self.values)
        return b"".join(part.tobytes() for part in parts)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Reading:
        numbers = np.frombuffer(blob, np.int32)
        n = int(numbers[0])
        token_ids, starts = numbers[1 : n + 1], numbers[n + 1 : 2 * n + 2]
        rest = numbers[2 * n + 2 :]
        m = int(starts[-1])
        return cls(token_ids, starts, rest[:m], rest[m:].view(np.float32))


class DiskCache:
    """Readings in an SQLite file that several threads and processes may share.

    ``identities`` tells of each coder all that its readings depend on but the text.

    Raises:
        AutointerpError: from every method, if the file cannot be used.
    """

    def __init__(self, path: Path, identities: Mapping[str, str]) -> None:
        self._path = path
        self._hashes = {
            coder: hashlib.blake2b(f"{_FORMAT}\0{identity}\0".encode(), digest_size=20)
            for coder, identity in identities.items()
        }
        self._lock = Lock()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS readings (key BLOB PRIMARY KEY, reading BLOB NOT NULL)"
            )

    def read(self, probes: Sequence[Probe]) -> dict[Probe, Reading]:
        """Those of the probes that were written before."""
        found = {}
        with self._errors():
            for probe in probes:
                row = self._file.execute(
                    "SELECT reading FROM readings WHERE key = ?", (self._key(probe),)
                ).fetchone()
                if row is not None:
                    found[probe] = Reading.from_bytes(row[0])
        return found

    def write(self, readings: Mapping[Probe, Reading]) -> None:
        """Write all in one transaction."""
        rows = [(self._key(probe), reading.to_bytes()) for probe, reading in readings.items()]
        with self._errors(), self._file:
            self._file.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?)", rows)

    def close(self) -> None:
        self._file.close()

    def _key(self, probe: Probe) -> bytes:
        digest = self._hashes[probe.coder].copy()
        digest.update(probe.text.encode(errors="surrogatepass"))
        return digest.digest()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """One thread at a time, and one line for what goes wrong."""
        try:
            with self._lock:
                yield
        except (OSError, sqlite3.Error) as error:
            raise AutointerpError(
                f"cannot use the probe cache {self._path}: {error}; remove it or name another"
            ) from error
