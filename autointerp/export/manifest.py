"""The manifest of a published run, read with suspicion: it may come from anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autointerp.config import build_config
from autointerp.export.tables import TABLES
from autointerp.export.whole import FORMAT, VERSION, fingerprint
from autointerp.latents import AutointerpError
from autointerp.pipeline.published import MANIFEST

TableName = Literal["explanations", "scores", "outcomes", "events", "latents", "examples"]
#: A file's name, which no manifest can make one outside the data set.
FileName = Annotated[str, Field(pattern=r"^data/[\w-][\w.-]*/[a-z]+-[0-9]{5,}\.parquet$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Table(_Part):
    """A table's files, in the order of their rows."""

    rows: int = Field(ge=0)
    files: list[FileName]


class Coder(_Part):
    """One coder's tables."""

    tables: dict[TableName, Table]

    def files(self, table: TableName) -> list[str]:
        """The files of a table; none if it is not there."""
        return self.tables[table].files if table in self.tables else []


class Fingerprint(_Part):
    """What a file must be."""

    bytes: int
    sha256: str


class Manifest(_Part):
    """All that is told of a published run."""

    latents: int
    examples: bool
    coders: dict[str, Coder]
    config: dict[str, Any]
    settings: dict[str, Any]
    notes: dict[str, Any]
    record: dict[str, Any]
    status: dict[str, Any]
    files: dict[FileName, Fingerprint]

    @model_validator(mode="after")
    def _every_file_is_told_of(self) -> Manifest:
        for coder in self.coders.values():
            for table in coder.tables.values():
                if missing := set(table.files) - self.files.keys():
                    raise ValueError(f"{min(missing)} has no hash")
        return self


def read_manifest(source: Path) -> Manifest:
    """The manifest of a published run all of whose files are there, as they were written.

    Raises:
        AutointerpError: naming what is missing, changed or not understood.
    """
    path = source / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise AutointerpError(
            f"there is no {MANIFEST} in {source}; it is no published run, or not all of one"
        ) from None
    except ValueError as error:
        raise AutointerpError(f"{path} is not JSON: {error}") from error
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise AutointerpError(f"{path} does not describe a published run")
    if told.get("version") != VERSION:
        raise AutointerpError(
            f"{path} has version {told.get('version')}, this program reads {VERSION}"
        )
    try:
        manifest = Manifest.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AutointerpError(f"{path}: {where}: {first['msg']}") from error
    _check_files(source, manifest)
    build_config(manifest.config, str(path))
    return manifest


def _check_files(source: Path, manifest: Manifest) -> None:
    for name, wanted in manifest.files.items():
        path = source / name
        if not path.is_file():
            raise AutointerpError(f"{path} is missing; download all of the data set")
        if fingerprint(path) != wanted.model_dump():
            raise AutointerpError(f"{path} is not the file that was published; download it again")
    for coder in manifest.coders.values():
        for name, table in coder.tables.items():
            for file in table.files:
                _check_columns(source / file, name)


def _check_columns(path: Path, table: TableName) -> None:
    try:
        found = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise AutointerpError(f"{path} is no parquet file: {error}") from error
    if not found.equals(TABLES[table]):
        raise AutointerpError(f"{path} does not have the columns of {table}")
