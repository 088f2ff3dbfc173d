"""A run directory made in no time, of whatever rows a test has; and the tables of an export."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from autointerp.config import load_config
from autointerp.export.hub import export_run
from autointerp.latents import Explanation
from autointerp.pipeline.directory import CONFIG, RESULTS
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored


def make_run(
    run: Path,
    explanations: Iterable[Explanation] = (),
    scores: Sequence[Scored] = (),
    overrides: Sequence[str] = (),
) -> Path:
    """A run without an example store."""
    run.mkdir()
    place = [f"run.directory={run.parent}", f"run.name={run.name}"]
    (run / CONFIG).write_text(load_config(None, [*overrides, *place]).to_yaml())
    with Results.open(run / RESULTS) as results:
        for explanation in explanations:
            results.put_explanation(explanation)
        results.put_scores(scores)
    return run


def exported(run: Path, output: Path, **options: Any) -> Path:
    export_run(run, output, lambda stage, done, total: None, **options)
    return output


def rows(folder: Path, table: str, coder: str = "*") -> list[dict[str, Any]]:
    """All rows of one table of an export."""
    files = sorted(folder.glob(f"data/{coder}/{table}-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def contents(folder: Path) -> Mapping[str, bytes]:
    """Every file below a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
