"""A run as a data set of the Hugging Face hub: parquet tables, a card, and a manifest.

``data/FOLDER/TABLE-00000.parquet`` has the rows of one coder's latents; ``autointerp.json`` says
what belongs together, with the hash of every file, and holds what is needed to make a run of it
again. The same run gives the same bytes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig, load_config
from autointerp.export.licenses import checked
from autointerp.export.whole import Whole
from autointerp.latents import AutointerpError
from autointerp.pipeline import directory
from autointerp.pipeline.published import MANIFEST
from autointerp.pipeline.results import Results
from autointerp.pipeline.status import is_running

STDLIB_LICENSE = "psf-2.0"

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


def export_run(
    run: Path,
    output: Path,
    observe: Observe,
    *,
    examples: bool = True,
    license_id: str | None = None,
) -> Document:
    """Write a run as a data set into the folder ``output``, over an earlier one; returns what it
    holds.

    Without ``examples`` no text of the corpus goes out, the agent's probes included.
    ``license_id`` is the corpus's.

    Raises:
        AutointerpError: if there is no run, it is being written, or ``output`` holds other files.
    """
    config = licensed(exported_config(run), license_id)
    with (
        Results.read(run / directory.RESULTS) as results,
        results.unchanging(),
        replacing(output, MANIFEST) as folder,
    ):
        manifest = Whole(run, config, results, folder, examples).write(observe)
    return _told(run, output, manifest)


def exported_config(run: Path) -> RunConfig:
    """The configuration of a run that can be exported now.

    Raises:
        AutointerpError: if it has no results, or is being written.
    """
    if not (run / directory.RESULTS).is_file():
        raise AutointerpError(f"{run} has no results to export; `autointerp run` makes them")
    if is_running(run):
        raise AutointerpError(f"a process is running in {run}; export it when it is done")
    return load_config(run / directory.CONFIG)


def _told(run: Path, output: Path, manifest: Document) -> Document:
    """The document of ``export``."""
    sizes = [path.stat().st_size for path in output.rglob("*") if path.is_file()]
    rows: Counter[str] = Counter()
    for coder in manifest["coders"].values():
        rows.update({name: table["rows"] for name, table in coder["tables"].items()})
    return {
        "run": str(run),
        "output": str(output),
        "files": len(sizes),
        "bytes": sum(sizes),
        "latents": manifest["latents"],
        "rows": dict(rows),
        "examples": manifest["examples"],
        "license": manifest["config"]["corpus"]["license"],
    }


def licensed(config: RunConfig, license_id: str | None) -> RunConfig:
    """The configuration with the corpus's licence: the one given, else what is known of it.

    Raises:
        AutointerpError: if it is no identifier of a licence.
    """
    own = STDLIB_LICENSE if config.corpus.source == "stdlib" else None
    known = license_id or config.corpus.license or own
    corpus = config.corpus.model_copy(update={"license": known and checked(known)})
    return config.model_copy(update={"corpus": corpus})


@contextmanager
def replacing(output: Path, mark: str) -> Iterator[Path]:
    """A new folder beside ``output`` that takes its place at the end of the block, whole.

    Raises:
        AutointerpError: if ``output`` is there and holds other things (no file named ``mark``), or
            another process is writing it.
    """
    ours = not output.exists() or (output / mark).exists()
    if not ours and (not output.is_dir() or any(output.iterdir())):
        raise AutointerpError(f"{output} holds other files; choose another place")
    unfinished = output.with_name(f".{output.name}.unfinished")
    with directory.writing(unfinished):
        new, old = unfinished / "new", unfinished / "old"
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        try:
            new.mkdir()
            yield new
            if output.exists():
                output.replace(old)
            new.replace(output)
        finally:
            shutil.rmtree(unfinished)
