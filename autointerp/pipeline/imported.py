"""Explanations from elsewhere: a csv or jsonl file with a latent and a text in every row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.kinds import reads_patterns_alone
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.patterns import parse
from autointerp.pipeline.lines import read_json_lines, reading
from autointerp.pipeline.rows import IMPORTED
from autointerp.pipeline.session import Session

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
    found = [_explanation(row, where, coders) for where, row in readers[path.suffix](path)]
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
    if not any(reads_patterns_alone(s, f"scorers.{i}") for i, s in enumerate(config.scorers)):
        return
    for explanation in explanations:
        try:
            parse(explanation.text)
        except AutointerpError as error:
            raise AutointerpError(
                f"{path}: {explanation.latent}: pattern reads patterns alone: {error}"
            ) from error


def take_in(s: Session, explanations: Sequence[Explanation]) -> list[LatentId]:
    """Store explanations from elsewhere; returns their latents.

    Raises:
        AutointerpError: if the run has another text for one of the latents.
    """
    stored = {e.latent: e.text for e in s.results.explanations(s.explainer)}
    for explanation in explanations:
        text = stored.get(explanation.latent, explanation.text)
        if text != explanation.text:
            raise AutointerpError(
                f"{s.path} has scored {text!r} for {explanation.latent}, and the file says "
                f"{explanation.text!r}; choose another run.name"
            )
    for explanation in explanations:
        if explanation.latent not in stored:
            s.results.put_explanation(explanation)
    return sorted({e.latent for e in explanations})


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with reading(path, "explanations"), path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                yield f"{path}:{reader.line_num}", row
        except csv.Error as error:
            where = f"{path}, after line {reader.line_num}"
            raise AutointerpError(f"{where}: not CSV: {error}") from error


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, row in read_json_lines(path, "explanations"):
        if not isinstance(row, dict):
            raise AutointerpError(f"{where} is not an object with {', '.join(COLUMNS)}")
        yield where, row


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
