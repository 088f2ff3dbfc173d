"""Makes ``view.sqlite`` of a run: what to read, and when to read it again."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.store import MARKER
from autointerp.latents import AutointerpError
from autointerp.pipeline import directory
from autointerp.pipeline.published import PublishedExamples, examples_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.standings import SELECT
from autointerp.report.viewer.schema import FORMAT
from autointerp.report.viewer.stream import Entry, entries
from autointerp.report.viewer.writing import Listing, Progress, ScorerName, write

INDEX = "view.sqlite"

_Measured = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def index_path(run: Path) -> Path:
    """In the run's directory; of one that cannot be written, in the user's cache."""
    if os.access(run, os.W_OK, effective_ids=True):
        return run / INDEX
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autointerp"
    cache.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(str(run.resolve()).encode(), digest_size=8).hexdigest()
    return cache / f"view-{name}.sqlite"


def up_to_date(run: Path, index: Path, progress: Progress) -> None:
    """Make the index of a run, unless there is one of these very results.

    Raises:
        AutointerpError: if the run has no results, or no latent is explained yet.
    """
    with Results.read(run / directory.RESULTS):
        pass  # to close it takes in what a killed run left beside it, which is a change
    if not is_current(run, index):
        build(run, index, progress)


def is_current(run: Path, index: Path) -> bool:
    """Whether an index is of the results that the run has now."""
    if not index.is_file():
        return False
    connection = sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True)
    try:
        found = dict(connection.execute("SELECT key, value FROM meta"))
    except sqlite3.DatabaseError:
        return False  # of another format, or none of ours: it is made anew
    finally:
        connection.close()
    return found == {"format": str(FORMAT), "signature": signature(run)}


def signature(run: Path) -> str:
    """Changes whenever what the index is made of does: results and examples of a run."""
    results = run / directory.RESULTS
    parts = [results, results.with_name(f"{results.name}-wal"), run / directory.EXAMPLES / MARKER]
    stats = [path.stat() if path.exists() else None for path in parts]
    return json.dumps([(s.st_mtime_ns, s.st_size) if s and s.st_size else None for s in stats])


def build(run: Path, index: Path, progress: Progress) -> None:
    """Index a run's results and densities, over whatever the file held.

    Raises:
        AutointerpError: if the run has no results, or no latent is explained yet.
    """
    with Results.read(run / directory.RESULTS) as results:
        signed = signature(run)
        total: int = next(results.query("SELECT count(*) FROM explanations"))[0]
        if not total:
            raise AutointerpError(f"{run} has no explanations yet; `autointerp run` makes them")
        hooks, measured = _measured(run)
        listed = _with_densities(entries(results), measured)
        write(index, Listing(listed, total, _scorers(results), hooks), progress, signed)


def _scorers(results: Results) -> dict[str, ScorerName]:
    """The scorers that have scored something, by name."""
    names = [
        name for (name,) in results.query("SELECT DISTINCT scorer FROM scores") if name != SELECT
    ]
    found = {}
    for name in sorted(names):
        query = (
            "SELECT headline, chance FROM scores"
            " WHERE scorer = ? AND control = '' AND status = 'scored' LIMIT 1"
        )
        row = next(results.query(query, (name,)), None)
        if row is not None:
            found[name] = ScorerName(*row)
    return found


def _measured(run: Path) -> tuple[dict[str, str], _Measured]:
    """By coder its hook point, and the densities and maxima of its latents: none of a run whose
    examples are not here."""
    examples = examples_of(run)
    if examples is None:
        return {}, {}
    if isinstance(examples, PublishedExamples):
        return {}, {coder: _published(examples, coder) for coder in examples.manifest["coders"]}
    hooks, found = {}, {}
    for entry in examples.header["coders"]:
        statistics = examples.statistics(entry["name"])
        density = np.asarray(statistics.firing_count) / max(1, statistics.tokens)
        found[entry["name"]] = (density, np.asarray(statistics.maximum, np.float64))
        hooks[entry["name"]] = entry["hook"]
    return hooks, found


def _published(
    examples: PublishedExamples, coder: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Not a number for latents that were not published."""
    measured = examples.measured(coder)
    index = measured["index"].astype(np.int64)
    blank = np.full(int(index.max(initial=-1)) + 1, np.nan)
    density, maximum = blank.copy(), blank
    density[index], maximum[index] = measured["density"], measured["maximum"]
    return density, maximum


def _with_densities(listed: Iterable[Entry], measured: _Measured) -> Iterator[Entry]:
    for entry in listed:
        density, maximum = measured.get(entry.coder, (None, None))
        at = entry.latent
        if density is None or maximum is None or at >= len(density) or isnan(density[at]):
            yield entry
        else:
            yield replace(entry, density=float(density[at]), maximum=float(maximum[at]))
