"""A run directory made of a published run: its results, and what was published of examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import yaml

from autointerp.export.hub import replacing
from autointerp.export.manifest import Coder, Manifest, read_manifest
from autointerp.export.outcomes import read_outcomes
from autointerp.export.rows import Row, exactly
from autointerp.export.shards import read_rows
from autointerp.latents import AutointerpError, Cost, Explanation, LatentId, Metric, Score
from autointerp.pipeline import directory
from autointerp.pipeline.following import Following
from autointerp.pipeline.published import MANIFEST, PUBLISHED
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.pipeline.status import STATUS_FILE

_AT_ONCE = 4096  # rows read together
_OUTCOMES_AT_ONCE = 65_536

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


def take_run(source: Path, run: Path, observe: Observe) -> Document:
    """Make the directory ``run`` of the published run in the folder ``source``.

    Its results are all there; the example store is not, and what was published of the examples
    lies in its place. The same is exported of it as was of the run it comes from.

    Raises:
        AutointerpError: if ``source`` is no published run, or not a whole one, or ``run`` exists.
    """
    manifest = read_manifest(source)
    if run.exists():
        raise AutointerpError(f"{run} is there already; choose another place with --run")
    with replacing(run, MANIFEST) as folder:
        with Results.open(folder / directory.RESULTS) as results:
            results.hold_settings(manifest.settings)
            for key, value in manifest.notes.items():
                results.note(key, value)
            _fill(results, source, manifest, observe)
        _write_surroundings(folder, source, manifest, run)
    return {"run": str(run), "latents": manifest.latents, "examples": manifest.examples}


def _fill(results: Results, source: Path, manifest: Manifest, observe: Observe) -> None:
    done = 0
    for name, coder in manifest.coders.items():
        for explanation in _explanations(source, name, coder):
            results.put_explanation(explanation)
        for _, scored in groupby(_scores(source, name, coder), lambda s: s.score.latent):
            results.put_scores(list(scored))
        done += coder.tables["latents"].rows if "latents" in coder.tables else 0
        observe("import", done, manifest.latents)


def _rows(source: Path, files: list[str], at_once: int) -> Iterator[Row]:
    return chain.from_iterable(table.to_pylist() for table in read_rows(source, files, at_once))


def _explanations(source: Path, name: str, coder: Coder) -> Iterator[Explanation]:
    events = _rows(source, coder.files("events"), _AT_ONCE)
    following = Following(map(exactly, events), lambda row: (row["index"], row["explanation"]))
    for row in map(exactly, _rows(source, coder.files("explanations"), _AT_ONCE)):
        details = json.loads(row["details"])
        for event in following.of((row["index"], row["id"])):
            details.setdefault(event["kind"], []).append(json.loads(event["data"]))
        yield Explanation(
            latent=LatentId(name, row["index"]),
            text=row["text"],
            explainer=row["explainer"],
            kind=row["kind"],
            status=row["status"],
            reason=row["reason"],
            components=tuple(row["components"]),
            confidence=row["confidence"],
            cost=Cost(**row["cost"]),
            details=details,
        )


def _scores(source: Path, name: str, coder: Coder) -> Iterator[Scored]:
    def key(row: Row) -> tuple[Any, ...]:
        return (row["index"], row["explanation"] or "", row["scorer"], row["control"])

    outcomes = Following(_rows(source, coder.files("outcomes"), _OUTCOMES_AT_ONCE), key)
    for row in map(exactly, _rows(source, coder.files("scores"), _AT_ONCE)):
        score = Score(
            latent=LatentId(name, row["index"]),
            explanation=row["explanation"],
            scorer=row["scorer"],
            judge=row["judge"],
            headline=row["headline"],
            chance=row["chance"],
            metrics={
                m["name"]: Metric(m["value"], m["low"], m["high"], m["n"]) for m in row["metrics"]
            },
            outcomes=list(read_outcomes(outcomes.of(key(row)))),
            status=row["status"],
            reason=row["reason"],
            cost=Cost(**row["cost"]),
            details=json.loads(row["details"]),
        )
        yield Scored(score, row["control"])


def _write_surroundings(folder: Path, source: Path, manifest: Manifest, run: Path) -> None:
    """What else a run directory has: its configuration, record, status and published examples."""
    published = folder / PUBLISHED
    published.mkdir()
    shutil.copyfile(source / MANIFEST, published / MANIFEST)
    for coder in manifest.coders.values():
        for name in (*coder.files("latents"), *coder.files("examples")):
            (published / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, published / name)
    text = yaml.safe_dump(manifest.config, sort_keys=False)
    (folder / directory.CONFIG).write_text(text, encoding="utf-8")
    told = {directory.RECORD: manifest.record}
    if manifest.status:
        told[STATUS_FILE] = {"run": str(run), **manifest.status}
    for name, value in told.items():
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
