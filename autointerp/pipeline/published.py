"""The examples of a run that was made of published files: those windows that were published.

The example store stays with whoever ran; what lies here instead are the parquet files of its
latents and examples, beside the manifest of the whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline.directory import EXAMPLES

PUBLISHED = "published"  # the folder of a run
MANIFEST = "autointerp.json"
WITH_EXAMPLES = "the examples are those that were published; the run has no example store here"
WITHOUT_EXAMPLES = "the run was published without examples, and has no example store here"
NO_STORE = "the example store of the run is not here"

Document = dict[str, Any]


class PublishedExamples:
    """What was published of the latents of a run, read a latent at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest: Document = json.loads((root / MANIFEST).read_text(encoding="utf-8"))

    @property
    def notice(self) -> str:
        """What a reader of the examples should know of them."""
        return WITH_EXAMPLES if self.manifest["examples"] else WITHOUT_EXAMPLES

    def files(self, coder: str, table: str) -> list[str]:
        """The parquet files of one of the tables, below :attr:`root`."""
        held: Document = self.manifest["coders"].get(coder, {"tables": {}})["tables"]
        return list(held[table]["files"]) if table in held else []

    def document(self, latent: LatentId) -> Document:
        """The part of the document of ``show`` that is about the corpus."""
        row = next(iter(self._rows(latent, "latents")), None)
        return {
            "statistics": _statistics(row) if row else {},
            "examples": [_example(row) for row in self._rows(latent, "examples")],
            "notice": self.notice,
        }

    def measured(self, coder: str) -> dict[str, NDArray[Any]]:
        """The ``index``, ``density`` and ``maximum`` of all latents that were published: [n]."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = ["index", "density", "maximum"]
        tables = [pq.read_table(self.root / f, columns=names) for f in self.files(coder, "latents")]
        if not tables:
            return {name: np.zeros(0) for name in names}
        whole = pa.concat_tables(tables)
        return {name: whole[name].to_numpy() for name in names}

    def _rows(self, latent: LatentId, table: str) -> list[Document]:
        import pyarrow.parquet as pq

        rows: list[Document] = []
        for name in self.files(latent.coder, table):
            mine = [("index", "==", latent.index)]
            rows += pq.read_table(self.root / name, filters=mine).to_pylist()
        return rows


def _statistics(row: Document) -> Document:
    return {
        "density": row["density"],
        "max": row["maximum"],
        "mean": row["mean"],
        "firing_count": row["firing_count"],
        "quantiles": [round(q, 6) for q in row["quantiles"]],
        "top_tokens": [[pair["token"], pair["count"]] for pair in row["top_tokens"]],
        "logit_lens": row["logit_lens"],
    }


def _example(row: Document) -> Document:
    return {
        "tokens": row["tokens"],
        "activations": [round(a, 4) for a in row["activations"]],
        "document": row["document"],
        "start": row["start"],
        "split": row["split"],
    }


Examples = ExampleStore | PublishedExamples


def examples_of(run: Path) -> Examples | None:
    """The example store of a run, or what was published of it; None if it has neither."""
    if (run / EXAMPLES / MARKER).exists():
        return ExampleStore.open(run / EXAMPLES)
    published = run / PUBLISHED
    return PublishedExamples(published) if (published / MANIFEST).exists() else None
