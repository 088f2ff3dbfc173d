"""The latents' statistics and windows of text as tables, made of an example store in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.store import ExampleStore, Kind, Windows
from autointerp.export.rows import legible
from autointerp.export.tables import EXAMPLES
from autointerp.latents import LatentId, Split

BLOCK = 128  # latents read together
SHOWN = 10  # windows of a group
GROUPS: tuple[tuple[Split, Kind], ...] = (("explain", "top"), ("test", "sampled"))
_TOP_TOKENS = 10
_QUANTILES = np.linspace(0, 1, 11)


class StoreTables:
    """Rows of ``latents`` and ``examples`` from an example store."""

    def __init__(self, store: ExampleStore) -> None:
        self._store = store
        texts = legible({"tokens": store.vocabulary})["tokens"]
        self._vocabulary = texts
        self._tokens = pa.array(texts, pa.string())

    def latents(self, block: Sequence[LatentId]) -> list[dict[str, Any]]:
        """What the whole corpus says of latents of one coder."""
        counts = self._store.statistics(block[0].coder)
        prepared = contrasts(self._store)
        windows, bounds = self._store.windows_of(block, "explain", "sampled")
        tokens = self._store.window_tokens(windows.documents, windows.starts)
        at_peaks = tokens[np.arange(len(windows)), windows.peaks]
        rows = []
        for number, latent in enumerate(block):
            mine = np.arange(bounds[number], bounds[number + 1])
            mine = mine[np.argsort(windows.maxima[mine], kind="stable")]
            firing = int(counts.firing_count[latent.index])
            rows.append(
                {
                    "latent": str(latent),
                    "index": latent.index,
                    "firing_count": firing,
                    "density": firing / max(1, counts.tokens),
                    "maximum": float(counts.maximum[latent.index]),
                    "mean": float(counts.sum[latent.index]) / max(1, firing),
                    "quantiles": _quantiles(windows.maxima[mine]),
                    "top_tokens": self._commonest(at_peaks[mine]),
                    "logit_lens": [self._vocabulary[i] for i in prepared.logit_lens(latent)],
                }
            )
        return rows

    def _commonest(self, tokens: NDArray[np.int32]) -> list[dict[str, Any]]:
        commonest = Counter(tokens.tolist()).most_common(_TOP_TOKENS)
        return [{"token": self._vocabulary[t], "count": count} for t, count in commonest]

    def examples(self, block: Sequence[LatentId]) -> pa.Table:
        """The strongest windows, and a uniform sample of TEST's active ones, of each latent."""
        parts = [self._group(block, split, kind) for split, kind in GROUPS]
        whole = pa.concat_tables([table for table, _ in parts])
        owners = np.concatenate([owners for _, owners in parts])
        return whole.take(pa.array(np.argsort(owners, kind="stable")))

    def _group(
        self, block: Sequence[LatentId], split: Split, kind: Kind
    ) -> tuple[pa.Table, NDArray[np.int64]]:
        """Windows of one group, and the number in the block of the latent of each."""
        windows, bounds = self._store.windows_of(block, split, kind)
        owners = np.repeat(np.arange(len(block)), np.diff(bounds))
        places = np.arange(len(windows)) - bounds[:-1][owners]
        kept = np.flatnonzero(places < SHOWN)
        owners, places = owners[kept], places[kept]
        texts = [str(latent) for latent in block]
        columns = {
            "latent": pa.array(texts, pa.string()).take(pa.array(owners)),
            "index": pa.array(np.array([latent.index for latent in block])[owners]),
            "split": pa.array([split] * len(kept), pa.string()),
            "kind": pa.array([kind] * len(kept), pa.string()),
            "place": pa.array(places),
            **self._texts(windows, kept),
        }
        return pa.table(columns, schema=EXAMPLES), owners

    def _texts(self, windows: Windows, kept: NDArray[np.int64]) -> dict[str, pa.Array]:
        documents, starts = windows.documents[kept], windows.starts[kept]
        ids = self._store.window_tokens(documents, starts)
        size = self._store.window
        ends = pa.array(np.arange(len(kept) + 1, dtype=np.int32) * size)
        activations = windows.activations[kept]
        return {
            "document": pa.array(documents),
            "start": pa.array(starts),
            "maximum": pa.array(windows.maxima[kept]),
            "tokens": pa.ListArray.from_arrays(ends, self._tokens.take(pa.array(ids.ravel()))),
            "activations": pa.ListArray.from_arrays(ends, pa.array(activations.ravel())),
        }


def _quantiles(ascending: NDArray[np.float32]) -> list[float]:
    """Linearly interpolated quantiles at 0, .1, …, 1; zeros if there is no value."""
    if not len(ascending):
        return [0.0] * len(_QUANTILES)
    at = _QUANTILES * (len(ascending) - 1)
    found: list[float] = np.interp(at, np.arange(len(ascending)), ascending).tolist()
    return found
