"""Gzipped files of JSON lines, so many latents a file."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

LATENTS = 1024  # a file


class Batches:
    """Writes ``TABLE/batch-N.jsonl.gz`` of every table, with the same latents in the same batch.

    Used as a context: all is written at its end. A table without rows has no files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._latents = folder, 0, 0
        self._lines: dict[str, list[str]] = {}
        self.rows: Counter[str] = Counter()

    def add(self, tables: Mapping[str, Sequence[BaseModel]]) -> None:
        """Append all rows of one latent, by table."""
        for table, rows in tables.items():
            self._lines.setdefault(table, []).extend(_line(row.model_dump()) for row in rows)
            self.rows[table] += len(rows)
        self._latents += 1
        if self._latents == LATENTS:
            self._flush()

    def _flush(self) -> None:
        for table, lines in self._lines.items():
            if lines:
                (self._folder / table).mkdir(exist_ok=True)
                path = self._folder / table / f"batch-{self._number}.jsonl.gz"
                with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
                    file.writelines(line.encode() for line in lines)
        self._lines, self._latents = {}, 0
        self._number += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._latents:
            self._flush()


def write_line(path: Path, row: Mapping[str, Any]) -> None:
    """A file of one JSON line."""
    path.write_text(_line(row), encoding="ascii")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"  # ASCII: no sign in it ends a line but this
