"""Explanations from elsewhere: a csv or jsonl file with a latent and a text in every row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.patterns import parse
from autointerp.pipeline.run import IMPORTED

COLUMNS = ("latent", "explanation")


def read_explanations(path: Path, coders: Mapping[str, int]) -> list[Explanation]:
    """Read a .csv or .jsonl file with the columns ``latent`` (CODER/INDEX) and ``explanation``.

    ``coders`` gives the width of each coder.

    Raises:
        AutointerpError: naming the file and line of what cannot be used.
    """
    readers = {".csv": _csv, ".jsonl": _jsonl}
    if path.suffix not in readers:
        raise AutointerpError(f"{path}: explanations come as .csv or .jsonl")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = readers[path.suffix](file, path)
            found = [_explanation(row, where, coders) for where, row in rows]
    except OSError as error:
        raise AutointerpError(f"cannot read the explanations {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AutointerpError(f"{path} is not UTF-8 text: {error}") from error
    if not found:
        raise AutointerpError(f"{path} holds no explanations")
    seen: set[LatentId] = set()
    for explanation in found:
        if explanation.latent in seen:
            raise AutointerpError(f"{path} has two explanations of {explanation.latent}")
        seen.add(explanation.latent)
    return found


def check_readable(config: RunConfig, path: Path, explanations: Sequence[Explanation]) -> None:
    """Refuse texts that a configured judge cannot read, before any long work.

    Raises:
        AutointerpError: naming the latent.
    """
    if all(section["judge"]["kind"] != "pattern" for section in config.scorers):
        return
    for explanation in explanations:
        try:
            parse(explanation.text)
        except AutointerpError as error:
            raise AutointerpError(
                f"{path}: {explanation.latent}: the pattern judge reads only patterns: {error}"
            ) from error


def _csv(file: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(file)
    for row in reader:
        yield f"{path}:{reader.line_num}", row


def _jsonl(file: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise AutointerpError(f"{path}:{number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise AutointerpError(f"{path}:{number} is not an object with {', '.join(COLUMNS)}")
        yield f"{path}:{number}", row


def _explanation(row: Mapping[str, Any], where: str, coders: Mapping[str, int]) -> Explanation:
    for column in COLUMNS:
        if not isinstance(row.get(column), str) or not row[column].strip():
            known = ", ".join(str(key) for key in row)
            raise AutointerpError(f"{where} has no {column!r} (columns: {known})")
    try:
        latent = LatentId.parse(row["latent"].strip())
    except AutointerpError as error:
        raise AutointerpError(f"{where}: {error}") from error
    if latent.coder not in coders:
        raise AutointerpError(f"{where}: no coder {latent.coder!r} (known: {', '.join(coders)})")
    if latent.index >= coders[latent.coder]:
        raise AutointerpError(
            f"{where}: {latent} is out of range; {latent.coder} has {coders[latent.coder]} latents"
        )
    return Explanation(latent, row["explanation"].strip(), IMPORTED)
