"""The writing of one run's tables, its manifest and its card."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.export.card import CARD, card
from autointerp.export.outcomes import Judged, outcome_table
from autointerp.export.public import Public
from autointerp.export.rows import explanation_rows, score_row
from autointerp.export.shards import Shards, folders
from autointerp.export.windows import BLOCK, StoreTables
from autointerp.latents import LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.published import MANIFEST, Examples, PublishedExamples, examples_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.status import read_status
from autointerp.pipeline.summary import collected

FORMAT, VERSION = "autointerp run", 1
SCORES_AT_ONCE = 1024
_NOTE = "note "
_TOLD_EVERY = 1000  # rows
_RECORD = ("versions", "checkpoints", "corpus")
_STATUS = (
    *("latents", "explained", "failed", "failures", "by_status", "scores", "cascade", "cost"),
    *("llm", "seconds", "stage", "reason", "seed"),
)

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


class _Progress:
    """Tells of rows now and then."""

    def __init__(self, observe: Observe, total: int) -> None:
        self._observe, self._done, self._total = observe, 0, total

    def advance(self, rows: int) -> None:
        before, self._done = self._done, self._done + rows
        if before // _TOLD_EVERY != self._done // _TOLD_EVERY or self._done == self._total:
            self._observe("export", self._done, self._total)


class Whole:
    """Writes a run into an empty folder."""

    def __init__(
        self, run: Path, config: RunConfig, results: Results, folder: Path, examples: bool
    ) -> None:
        self._run, self._results, self._folder = run, results, folder
        self._public = Public(run, config)
        self._config = self._public.config()
        self._source: Examples | None = examples_of(run)
        held = self._source
        published = isinstance(held, PublishedExamples) and bool(held.manifest["examples"])
        self._examples = examples and (published or isinstance(held, ExampleStore))
        self._probes = examples
        self._places = folders(self._coders())

    def _coders(self) -> list[str]:
        query = "SELECT coder FROM explanations UNION SELECT coder FROM scores ORDER BY coder"
        return [coder for (coder,) in self._results.query(query)]

    def write(self, observe: Observe) -> Document:
        """Write everything; returns the manifest."""
        counts = {coder: len(self._indices(coder)) for coder in self._places}
        latents = sum(counts.values())
        rows = "SELECT (SELECT count(*) FROM explanations) + (SELECT count(*) FROM scores)"
        self._progress = _Progress(observe, next(self._results.query(rows))[0] + latents)
        coders = {
            coder: {"folder": place, "tables": self._tables(coder, place)}
            for coder, place in self._places.items()
        }
        text = json.dumps(self._manifest(coders, latents), indent=1, sort_keys=True)
        (self._folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        manifest: Document = json.loads(text)  # in the order of whoever reads it
        (self._folder / CARD).write_text(card(manifest), encoding="utf-8")
        return manifest

    def _indices(self, coder: str) -> NDArray[np.int64]:
        """The latents of a coder that there is anything of."""
        query = (
            "SELECT latent FROM explanations WHERE coder = ?1"
            " UNION SELECT latent FROM scores WHERE coder = ?1 ORDER BY latent"
        )
        found = (index for (index,) in self._results.query(query, (coder,)))
        return np.fromiter(found, np.int64)

    def _tables(self, coder: str, place: str) -> Document:
        written = {**self._explanations(coder, place), **self._scores(coder, place)}
        tables: Document = {
            name: {"rows": shards.rows, "files": shards.files} for name, shards in written.items()
        }
        return tables | self._windows(coder, place)

    def _explanations(self, coder: str, place: str) -> dict[str, Shards]:
        with _written(self._folder, place, "explanations", "events") as shards:
            query = "SELECT * FROM explanations WHERE coder = ? ORDER BY latent, kind, explainer"
            for stored in self._results.query(query, (coder,)):
                row, events = explanation_rows(stored, self._public.hide, probes=self._probes)
                shards["explanations"].gather(row)
                for event in events:
                    shards["events"].gather(event)
                self._progress.advance(1)
        return shards

    def _scores(self, coder: str, place: str) -> dict[str, Shards]:
        with _written(self._folder, place, "scores", "outcomes") as shards:
            query = (
                "SELECT * FROM scores WHERE coder = ? ORDER BY latent, explanation, scorer, control"
            )
            judged: list[Judged] = []
            for stored in self._results.query(query, (coder,)):
                row = score_row(stored, self._public.hide)
                shards["scores"].gather(row)
                key = (row["latent"], row["index"], row["explanation"])
                judged.append(Judged(*key, row["scorer"], row["control"], stored[-1]))
                self._progress.advance(1)
                if len(judged) == SCORES_AT_ONCE:
                    shards["outcomes"].add(outcome_table(judged, self._public.hide))
                    judged = []
            shards["outcomes"].add(outcome_table(judged, self._public.hide))
        return shards

    def _windows(self, coder: str, place: str) -> Document:
        tables = ("latents", "examples") if self._examples else ("latents",)
        if isinstance(self._source, PublishedExamples):
            return self._copied(self._source, coder, tables)
        if self._source is None or coder not in self._source.coders:
            return {}
        source = StoreTables(self._source)
        indices = self._indices(coder)
        with _written(self._folder, place, *tables) as shards:
            for low in range(0, len(indices), BLOCK):
                block = [LatentId(coder, i) for i in indices[low : low + BLOCK].tolist()]
                shards["latents"].add(source.latents(block))
                if self._examples:
                    shards["examples"].add(source.examples(block))
                self._progress.advance(len(block))
        return {name: {"rows": s.rows, "files": s.files} for name, s in shards.items()}

    def _copied(self, source: PublishedExamples, coder: str, tables: tuple[str, ...]) -> Document:
        """The tables that were published, as they are."""
        held: Document = source.manifest["coders"].get(coder, {"tables": {}})["tables"]
        copied = {table: held[table] for table in tables if table in held}
        for entry in copied.values():
            for name in entry["files"]:
                (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.root / name, self._folder / name)
        self._progress.advance(sum(t["rows"] for name, t in copied.items() if name == "latents"))
        return copied

    def _manifest(self, coders: Document, latents: int) -> Document:
        names = [n for c in coders.values() for t in c["tables"].values() for n in t["files"]]
        status = read_status(self._run) or {}
        notes = self._results.query("SELECT key, value FROM meta WHERE key LIKE 'note %'")
        return {
            "format": FORMAT,
            "version": VERSION,
            "latents": latents,
            "examples": self._examples,
            "coders": coders,
            "config": self._config,
            "settings": self._public.settings(self._results.settings()),
            "notes": {key.removeprefix(_NOTE): json.loads(value) for key, value in notes},
            "record": self._told(directory.read_record(self._run), _RECORD),
            "status": self._told(status, _STATUS),
            "collected": self._public.value(self._collected()),
            "files": {name: fingerprint(self._folder / name) for name in sorted(names)},
        }

    def _told(self, document: Document, keys: tuple[str, ...]) -> Document:
        """These of a document's entries; what others will be added to it is not known here."""
        return {key: self._public.value(document[key]) for key in keys if key in document}

    def _collected(self) -> Document | None:
        if isinstance(self._source, ExampleStore):
            return {k: v for k, v in collected(self._source, self._run).items() if k != "run"}
        return self._source.manifest["collected"] if self._source else None


@contextmanager
def _written(folder: Path, place: str, *tables: str) -> Iterator[dict[str, Shards]]:
    """Tables of one coder that are whole at the end of the block."""
    shards = {table: Shards(folder, place, table) for table in tables}
    yield shards
    for held in shards.values():
        held.close()


def fingerprint(path: Path) -> Document:
    """A file's size, and the hash by which the hub knows it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}
