"""How alike two runs' explanations are, by embedding: nearest ones, and coder against coder.

Of every explanation of one coder the nearest of the other is found, as in Paulo et al.,
"Automatically Interpreting Millions of Features in Large Language Models", 2024. Vectors lie on
disk and are compared in blocks, so that memory grows by a few numbers a latent alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.config import load_config
from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.nearest import Meanings, Nearest, nearest
from autointerp.pipeline.own_texts import own_texts, text_of
from autointerp.pipeline.plan import blocks
from autointerp.pipeline.results import Results
from autointerp.statistics.randomness import derived_generator

LOT = 512  # texts embedded together
ROWS = 4096  # of a file, written together
_FIGURE = 1.96  # standard errors on either side, for 95 %

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
Observe = Callable[[str, int, int], None]
Document = dict[str, Any]
_Pair = tuple[float, LatentId, LatentId]


def embedder_of(run: Path, model: str | None) -> tuple[str, Callable[[], Embed]]:
    """The name of the embedding model, the run's own unless one is given, and what loads it.

    Raises:
        AutointerpError: if the extra ``embedding`` is not installed.
    """
    from autointerp.pipeline.embedding import load_embedder
    from autointerp.subject.embedder import check_installed

    check_installed()
    section = load_config(run / directory.CONFIG).embedder
    name, revision = (model, None) if model else (section.model, section.revision)
    return name, lambda: load_embedder(name, revision, section.device)


def compare_meanings(
    a: Path, b: Path, load: Callable[[], Embed], observe: Observe, *, top: int = 10, seed: int = 0
) -> Document:
    """The document of ``similarity``: the matrix of all coders of ``a`` against those of ``b``,
    and the ``top`` nearest pairs. Writes all nearest ones to a parquet file in ``a``.

    ``best`` is the mean over the latents of ``a`` of the cosine to the nearest explanation of
    ``b``, with its 95 % interval; ``shuffled`` that to the nearest one of another latent, ``any``
    that of any two. A run against itself pairs no latent with itself.

    Raises:
        AutointerpError: if one of the runs has no explanations.
    """
    results_a, results_b = (Results.read(run / directory.RESULTS) for run in (a, b))
    with results_a, results_b, _scratch(a) as scratch:
        for run, results in ((a, results_a), (b, results_b)):
            if next(own_texts(results), None) is None:
                raise AutointerpError(f"{run} has no explanations to compare")
        embed = load()
        same = a.resolve() == b.resolve()
        side_a = _embedded(results_a, embed, scratch / "a", observe)
        side_b = side_a if same else _embedded(results_b, embed, scratch / "b", observe)
        table = scratch / "similarity.parquet"
        matrix: list[Document] = []
        pairs: list[_Pair] = []
        with _Table(table, results_a, results_b) as writer:
            for done, (one, other) in enumerate((x, y) for x in side_a for y in side_b):
                observe("compare", done, len(side_a) * len(side_b))
                itself = same and one.coder == other.coder
                found = nearest(one, other, same=itself)
                if found is None:  # a single explanation has none beside it
                    continue
                shuffled = _shuffled(one, other, found, seed, itself)
                matrix.append(_cell(one, other, found, shuffled))
                writer.add(one, other, found, shuffled)
                pairs += _best(one, other, found, top, once=same)
        kept = a / f"similarity-{b.resolve().name}.parquet"
        table.replace(kept)
        pairs = sorted(pairs, key=lambda pair: (-pair[0], pair[1:]))[: max(0, top)]
        shown = [_pair(results_a, results_b, *pair) for pair in pairs]
    return {"a": str(a), "b": str(b), "matrix": matrix, "pairs": shown, "file": str(kept)}


@contextmanager
def _scratch(run: Path) -> Iterator[Path]:
    """A folder in the run until the end of the block, on the disk of what is kept."""
    try:
        folder = tempfile.TemporaryDirectory(dir=run, prefix=".similarity-")
    except OSError as error:
        raise AutointerpError(
            f"cannot write to {run}: {error.strerror}; name another run first, or a copy of it"
        ) from error
    with folder as name:
        yield Path(name)


def _embedded(results: Results, embed: Embed, stem: Path, observe: Observe) -> list[Meanings]:
    """The vectors of every coder's explanations, in files."""
    query = "SELECT count(*) FROM (SELECT DISTINCT coder, latent FROM explanations)"
    total, done = next(results.query(query))[0], 0
    found: list[Meanings] = []
    for coder, group in groupby(own_texts(results), lambda e: e.latent.coder):
        path = stem.with_name(f"{stem.name}-{len(found)}.bin")
        indices: list[int] = []
        with path.open("wb") as file:
            for lot in blocks(group, LOT):
                vectors = np.asarray(embed([e.text for e in lot]), np.float32)
                file.write(np.ascontiguousarray(vectors).data)
                indices += [e.latent.index for e in lot]
                done += len(lot)
                observe("embed", done, total)
        shape = (len(indices), vectors.shape[1])
        mapped = np.memmap(path, np.float32, mode="r", shape=shape)
        found.append(Meanings(coder, np.array(indices), mapped))
    return found


def _shuffled(
    one: Meanings, other: Meanings, found: Nearest, seed: int, itself: bool
) -> NDArray[np.float32]:
    """The cosine of every explanation to the nearest of another latent of its coder: [n].

    The other latents are dealt out in a ring in random order, so that nobody gets its own. NaN
    where a coder is compared with ``itself`` and the other latent's nearest is this one.
    """
    n = len(one.indices)
    ring = derived_generator(seed, "shuffled", one.coder, other.coder).permutation(n)
    partner = np.empty(n, np.int64)
    partner[ring] = np.roll(ring, 1)
    cosines = np.empty(n, np.float32)
    for low in range(0, n, ROWS):
        theirs = other.vectors[found.places[partner[low : low + ROWS]]]
        cosines[low : low + ROWS] = (one.vectors[low : low + ROWS] * theirs).sum(1)
    if itself:
        cosines[found.places[partner] == np.arange(n)] = np.nan
    return cosines


def _cell(
    one: Meanings, other: Meanings, found: Nearest, shuffled: NDArray[np.float32]
) -> Document:
    kept = shuffled[~np.isnan(shuffled)]
    return {
        "a": one.coder,
        "b": other.coder,
        "n": len(one.indices),
        "candidates": len(other.indices),
        "best": _mean(found.cosines),
        "shuffled": _mean(kept) if len(one.indices) > 1 and len(kept) else None,
        "any": found.any_pair,
        "mutual": float(found.mutual.mean()),
    }


def _mean(values: NDArray[np.float32]) -> list[float | None]:
    """The mean and its 95 % interval over latents; a single one has none."""
    n, mean = len(values), float(values.mean(dtype=np.float64))
    if n < 2:
        return [mean, None, None]
    half = _FIGURE * float(values.std(ddof=1, dtype=np.float64)) / sqrt(n)
    return [mean, mean - half, mean + half]


def _best(
    one: Meanings, other: Meanings, found: Nearest, top: int, *, once: bool
) -> Iterator[_Pair]:
    """The nearest pairs that are each other's nearest; with ``once``, in one order alone."""
    mutual = np.flatnonzero(found.mutual)
    taken = 0
    for i in mutual[np.argsort(-found.cosines[mutual], kind="stable")].tolist():
        a = LatentId(one.coder, int(one.indices[i]))
        b = LatentId(other.coder, int(other.indices[found.places[i]]))
        if taken >= top:
            return
        if not once or a < b:
            taken += 1
            yield float(found.cosines[i]), a, b


def _pair(
    results_a: Results, results_b: Results, cosine: float, a: LatentId, b: LatentId
) -> Document:
    texts = {"text_a": text_of(results_a, a), "text_b": text_of(results_b, b)}
    return {"a": str(a), "b": str(b), "cosine": cosine, **texts}


class _Table:
    """The parquet file of all nearest pairs, written in blocks."""

    def __init__(self, path: Path, results_a: Results, results_b: Results) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = ("latent_a", "latent_b", "text_a", "text_b")
        self._schema = pa.schema(
            [(name, pa.string()) for name in texts]
            + [("cosine", pa.float32()), ("shuffled", pa.float32()), ("mutual", pa.bool_())]
        )
        self._results = results_a, results_b
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def add(
        self, one: Meanings, other: Meanings, found: Nearest, shuffled: NDArray[np.float32]
    ) -> None:
        import pyarrow as pa

        for low in range(0, len(one.indices), ROWS):
            part = slice(low, low + ROWS)
            theirs = other.indices[found.places[part]]
            a = [LatentId(one.coder, i) for i in one.indices[part].tolist()]
            b = [LatentId(other.coder, i) for i in theirs.tolist()]
            columns = {
                "latent_a": list(map(str, a)),
                "latent_b": list(map(str, b)),
                "text_a": [text_of(self._results[0], latent) for latent in a],
                "text_b": [text_of(self._results[1], latent) for latent in b],
                "cosine": found.cosines[part],
                "shuffled": pa.array(shuffled[part], from_pandas=True),  # NaN is null
                "mutual": found.mutual[part],
            }
            self._writer.write_table(pa.table(columns, schema=self._schema))

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
