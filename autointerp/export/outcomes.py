"""Judged items as a table: a row an outcome, made of the packed columns of whole batches of scores.

No outcome becomes an object on the way out: there are hundreds for every latent.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.export.rows import Hide, Row, legible
from autointerp.export.tables import OUTCOMES
from autointerp.latents import Choice, Failure, Label, Number, Outcome, Values

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Label, Choice, Values, Number, Failure)
}
_COLUMNS = {  # what a kind's fields are called here, where it is not their own names
    "Choice": {"truth": "right"},
    "Values": {"truth": "true_values", "predicted": "predicted_values"},
}
_REQUESTS = "requests"


class Judged(NamedTuple):
    """A score's key and its packed outcomes."""

    latent: str
    number: int
    explanation: str | None
    scorer: str
    control: str
    packed: bytes


class _Columns:
    """The outcomes of one kind, of all scores of a batch."""

    def __init__(self) -> None:
        self.owners: list[int] = []
        self.counts: list[int] = []
        self.values: dict[str, list[Any]] = {}

    def add(self, owner: int, columns: Mapping[str, list[Any]]) -> None:
        missing = [None] * sum(self.counts) if columns.keys() - self.values.keys() else []
        for name in columns.keys() - self.values.keys():
            self.values[name] = missing.copy()
        count = len(columns["place"])
        for name, held in self.values.items():
            held += columns.get(name, [None] * count)
        self.owners.append(owner)
        self.counts.append(count)


def outcome_table(batch: Sequence[Judged], hide: Hide) -> pa.Table:
    """The outcomes of a batch of scores, in their order."""
    kinds: dict[str, _Columns] = {}
    requests: list[str] = []
    for owner, judged in enumerate(batch):
        _unpack(owner, judged.packed, kinds, requests)
    parts = [_part(batch, name, columns, requests, hide) for name, columns in kinds.items()]
    if not parts:
        return OUTCOMES.empty_table()
    if len(parts) == 1:
        return parts[0].table
    order = np.lexsort(
        (
            np.concatenate([part.places for part in parts]),
            np.concatenate([part.owners for part in parts]),
        )
    )
    return pa.concat_tables([part.table for part in parts]).take(pa.array(order))


def _unpack(owner: int, packed: bytes, kinds: dict[str, _Columns], requests: list[str]) -> None:
    columns: dict[str, Any] = json.loads(zlib.decompress(packed))
    base = len(requests)
    requests += columns.pop(_REQUESTS, [])
    numbered = len(requests) > base
    for name, fields in columns.items():
        if numbered and "request" in fields:
            fields["request"] = [None if r is None else r + base for r in fields["request"]]
        else:
            fields.pop("request", None)
        kinds.setdefault(name, _Columns()).add(owner, fields)


class _Part(NamedTuple):
    table: pa.Table
    owners: np.ndarray[Any, Any]  # [n], of the batch's scores
    places: np.ndarray[Any, Any]  # [n]


def _part(
    batch: Sequence[Judged], kind: str, columns: _Columns, requests: list[str], hide: Hide
) -> _Part:
    """The rows of one kind."""
    owners = np.repeat(np.array(columns.owners), columns.counts)
    given = {
        _COLUMNS.get(kind, {}).get(name, name): values for name, values in columns.values.items()
    }
    if "reason" in given:
        given["reason"] = [_reason(reason, hide) for reason in given["reason"]]
    rows = len(owners)
    arrays: dict[str, pa.Array] = {"kind": _spread([kind], np.zeros(rows, np.int32))}
    for name in ("latent", "explanation", "scorer", "control"):
        arrays[name] = _spread([getattr(judged, name) for judged in batch], owners)
    arrays["index"] = pa.array(np.array([judged.number for judged in batch])[owners])
    if "request" in given:
        arrays["request"] = _spread(requests, pa.array(given.pop("request"), pa.int32()))
    arrays |= {name: pa.array(values, OUTCOMES.field(name).type) for name, values in given.items()}
    whole = [
        arrays[field.name] if field.name in arrays else pa.nulls(rows, field.type)
        for field in OUTCOMES
    ]
    places = np.array(columns.values["place"])
    return _Part(pa.Table.from_arrays(whole, schema=OUTCOMES), owners, places)


def _spread(values: Sequence[str | None], at: Any) -> pa.Array:
    """``values[at]`` as text; null where ``at`` is."""
    return pc.take(pa.array(values, pa.string()), pa.array(at))


def _reason(reason: str, hide: Hide) -> str:
    shown: str = legible({"reason": hide(reason)})["reason"]
    return shown


def read_outcomes(rows: Iterable[Row]) -> Iterator[Outcome]:
    """The outcomes that rows of the table stand for, in their order."""
    for row in rows:
        kind = _KINDS[row["kind"]]
        names = _COLUMNS.get(row["kind"], {})
        given = {field: row[names.get(field, field)] for field in kind._fields}
        yield kind(**{f: tuple(v) if isinstance(v, list) else v for f, v in given.items()})
