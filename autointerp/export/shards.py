"""Parquet files of bounded size, and the names under which a published run has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.export.tables import TABLES

DATA = "data"
ROWS = {"outcomes": 4_000_000, "examples": 200_000}  # of a file, about
ROWS_ELSE = 250_000
GROUP = {"outcomes": 250_000, "examples": 10_000}  # of a row group, about
GROUP_ELSE = 10_000
_GATHERED = 1000


class Shards:
    """Writes one table of one coder: ``data/FOLDER/TABLE-00000.parquet`` and so on.

    Pages begin where the contents say (content-defined chunking), so that a table of which few
    rows changed shares most of its bytes with the old one, and the page index tells a reader of a
    few rows which pages to fetch. A table without rows has no file.
    """

    def __init__(self, root: Path, folder: str, table: str) -> None:
        self._root, self._stem = root, f"{DATA}/{folder}/{table}"
        self._schema: pa.Schema = TABLES[table]
        self._limit = ROWS.get(table, ROWS_ELSE)
        self._group = GROUP.get(table, GROUP_ELSE)
        self._writer: pq.ParquetWriter | None = None
        self._gathered: list[dict[str, Any]] = []
        self._waiting: list[pa.Table] = []
        self._in_file = 0
        self.files: list[str] = []
        self.rows = 0

    def add(self, rows: pa.Table | list[dict[str, Any]]) -> None:
        """Append rows; they are written when a row group is full."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, self._schema)
        self._waiting.append(table)
        if sum(map(len, self._waiting)) >= self._group:
            self._flush()

    def gather(self, row: dict[str, Any]) -> None:
        """Append one row."""
        self._gathered.append(row)
        if len(self._gathered) == _GATHERED:
            self._add_gathered()

    def _add_gathered(self) -> None:
        rows, self._gathered = self._gathered, []
        self.add(rows)

    def close(self) -> None:
        """Write what is left."""
        self._add_gathered()
        if any(map(len, self._waiting)):
            self._flush()
        self._close_file()

    def _flush(self) -> None:
        table = pa.concat_tables([self._schema.empty_table(), *self._waiting])
        self._waiting = []
        if self._writer is None:
            self._writer = self._open()
        self._writer.write_table(table, row_group_size=max(1, len(table)))
        self.rows += len(table)
        self._in_file += len(table)
        if self._in_file >= self._limit:
            self._close_file()

    def _open(self) -> pq.ParquetWriter:
        name = f"{self._stem}-{len(self.files):05}.parquet"
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.files.append(name)
        return pq.ParquetWriter(
            path,
            self._schema,
            compression="zstd",
            write_page_index=True,
            use_content_defined_chunking=True,
        )

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._in_file = None, 0


def folders(coders: Iterable[str]) -> dict[str, str]:
    """A folder's name for every coder, that is also the name of its configuration.

    A coder may have any name; a folder's has letters, digits, dots, dashes and underscores alone,
    and neither it nor a table's configuration has the name of another's.
    """
    taken: set[str] = set()
    found: dict[str, str] = {}
    for coder in coders:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", coder).strip(".") or "_"
        name, number = stem, 1
        while taken & (names := {name.lower(), *(f"{name}.{t}".lower() for t in TABLES)}):
            number += 1
            name = f"{stem}_{number}"
        taken |= names
        found[coder] = name
    return found


def read_rows(root: Path, files: Iterable[str], rows: int) -> Iterator[pa.Table]:
    """The rows of a table's files in their order, at most ``rows`` at a time."""
    for name in files:
        with pq.ParquetFile(root / name) as file:
            for batch in file.iter_batches(rows):
                yield pa.Table.from_batches([batch])
