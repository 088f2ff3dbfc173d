"""Exporting a large run as a data set: seconds, memory and bytes, and whether it loads again.

Usage: python bench/export.py [LATENTS]. Prints JSON objects, one a line. The run is synthetic:
results and an example store written straight to disk, with 10 windows and 200 outcomes a latent.
Making it, and loading the data set again, are not timed as part of the export.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.config import RunConfig
from autointerp.examples.documents import DOCUMENT
from autointerp.examples.store import CODER_ARRAYS
from autointerp.latents import Cost, Explanation, Label, LatentId, Metric, Score
from autointerp.pipeline.directory import CONFIG, EXAMPLES, RESULTS
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored, explanation_row, score_row
from autointerp.sections import CoderSection, RunSection, SubjectSection

CODER = "layers.1"
OUTCOMES = 100  # a score, of which a latent has two
SHOWN = 5  # windows of EXPLAIN, and of TEST
WINDOW, VOCABULARY, TOKENS = 32, 4096, 2_000_000
PROTOTYPES = 256  # different scores; all latents have one of them
SAMPLE = 500  # rows compared one by one


def report(figure: str, value: float, unit: str, **fields: Any) -> None:
    found = {"bench": "export", "figure": figure, "value": round(value, 3), "unit": unit}
    print(json.dumps({**found, **fields}), flush=True)


def make_run(run: Path, latents: int) -> None:
    """Write a run of so many latents."""
    run.mkdir()
    coders = {CODER: CoderSection(path="demo")}
    config = RunConfig(
        run=RunSection(name=run.name, directory=run.parent),
        subject=SubjectSection(coders=coders),
        latents={CODER: "all"},
    )
    (run / CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    Results.open(run / RESULTS).close()
    connection = sqlite3.connect(run / RESULTS)
    with connection:
        connection.executemany(
            f"INSERT INTO explanations VALUES ({', '.join('?' * 11)})", explanations(latents)
        )
        connection.executemany(
            f"INSERT INTO scores VALUES ({', '.join('?' * 14)})", scores(latents)
        )
    connection.close()
    make_store(run / EXAMPLES, latents)


def explanations(latents: int) -> Iterator[tuple[Any, ...]]:
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(20_000)]
    for index in range(latents):
        text = " ".join(words[i] for i in random.zipf(1.3, 14) % len(words))
        probes = [{"id": f"p{i}", "text": text, "levels": [0, 3, 9]} for i in range(3)]
        yield explanation_row(
            Explanation(
                LatentId(CODER, index),
                text,
                "single_pass",
                components=(text[:20], text[20:]),
                cost=Cost(1, 900, 0, 40, 0.0002, 1.5),
                details={"label": text[:30], "probes": probes},
            )
        )


def scores(latents: int) -> Iterator[tuple[Any, ...]]:
    random = np.random.default_rng(1)
    prototypes = {
        scorer: [score_row(Scored(a_score(scorer, random))) for _ in range(PROTOTYPES)]
        for scorer in ("detection", "fuzzing")
    }
    for index in range(latents):
        for rows in prototypes.values():
            row = rows[index % PROTOTYPES]
            yield (row[0], index, f"{CODER}/{index}:input:single_pass", *row[3:])


def a_score(scorer: str, random: np.random.Generator) -> Score:
    truths = random.random(OUTCOMES) < 0.5
    answers = truths ^ (random.random(OUTCOMES) < 0.2)
    items = enumerate(zip(truths.tolist(), answers.tolist(), strict=True))
    judged = [
        Label(
            truth,
            answer,
            round(float(random.random()), 4),
            "activating" if truth else "token",
            number % 10 if truth else None,
            f"{scorer}{number // 10:07x}",
        )
        for number, (truth, answer) in items
    ]
    metric = Metric(float((truths == answers).mean()), 0.7, 0.9, OUTCOMES)
    metrics = {"balanced_accuracy": metric, "sensitivity": metric, "specificity_token": metric}
    latent = LatentId(CODER, 0)
    return Score(
        latent, "x", scorer, "llm", "balanced_accuracy", 0.5, metrics, judged, cost=Cost(10, 9000)
    )


def make_store(folder: Path, latents: int) -> None:
    """An example store with SHOWN windows of EXPLAIN (also as the uniform sample) and of TEST."""
    random = np.random.default_rng(2)
    (folder / "coders" / "0").mkdir(parents=True)
    vocabulary = [f" t{number}" for number in range(VOCABULARY)]
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    (random.zipf(1.2, TOKENS) % VOCABULARY).astype("<u2").tofile(folder / "tokens.bin")
    length = 4000
    documents = np.zeros(TOKENS // length, DOCUMENT)
    documents["offset"] = np.arange(len(documents)) * length
    documents["first_window"] = np.arange(len(documents)) * (length // WINDOW)
    documents["length"] = length
    documents.tofile(folder / "documents.bin")
    for name, array in coder_arrays(latents, len(documents) * (length // WINDOW), random).items():
        np.save(folder / "coders" / "0" / f"{name}.npy", array)
    entry = {"name": CODER, "hook": "h.1", "variance_explained": 0.8, "claims": {}}
    header = {
        "version": 1,
        "window": WINDOW,
        "content": 224,
        "seed": 0,
        "tokens": TOKENS,
        "windows": len(documents) * (length // WINDOW),
        "coders": [entry],
        "report": {},
    }
    (folder / "store.json").write_text(json.dumps(header))


def coder_arrays(latents: int, windows: int, random: np.random.Generator) -> dict[str, Any]:
    groups, pairs = 3, 3  # of windows a latent (explain top, explain sampled, test); of a window
    entries = latents * groups * SHOWN
    ends = np.array([0, SHOWN, 2 * SHOWN, 2 * SHOWN, 3 * SHOWN])
    values = random.gamma(2.0, 2.0, (entries, pairs)).astype(np.float32)
    positions = np.sort(random.integers(0, WINDOW // pairs, (entries, pairs)), 1)
    arrays: dict[str, Any] = {name: np.zeros(0) for name in CODER_ARRAYS}
    return arrays | {
        "firing_count": random.integers(1, 10_000, latents),
        "activation_sum": random.random(latents) * 1e4,
        "maximum": values.max() * np.ones(latents, np.float32),
        "window_count": np.full((latents, 3), SHOWN),
        "entry_offsets": np.arange(latents)[:, None] * groups * SHOWN + ends,
        "entry_keys": np.zeros(entries, np.uint32),
        "entry_windows": random.integers(0, windows, entries).astype(np.uint32),
        "entry_maxima": values.max(1),
        "pair_offsets": np.arange(entries + 1) * pairs,
        "positions": (positions + np.arange(pairs) * (WINDOW // pairs)).ravel().astype(np.uint8),
        "values": values.ravel(),
    }


def export(run: Path) -> None:
    """In a process of its own: the export alone."""
    from autointerp.export.hub import export_run

    began, worked = time.perf_counter(), time.process_time()
    document = export_run(run, run / "export", lambda stage, done, total: None)
    seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**document, "seconds": seconds, "cpu": cpu, "peak": peak}))


def loaded(folder: Path, run: Path, cache: Path) -> bool:
    """Whether the data set has all rows of the results, and a sample of them as they are there."""
    from datasets import load_dataset

    tables = {
        name: load_dataset(str(folder), name, split="train", cache_dir=str(cache))
        for name in (CODER, f"{CODER}.scores", f"{CODER}.outcomes", f"{CODER}.examples")
    }
    with Results.read(run / RESULTS) as results:
        latents = next(results.query("SELECT count(*) FROM explanations"))[0]
        sizes = [len(table) for table in tables.values()]
        wanted = [latents, 2 * latents, 2 * OUTCOMES * latents, 2 * SHOWN * latents]
        picked = np.random.default_rng(3).integers(0, latents, SAMPLE).tolist()
        return sizes == wanted and all(same(results, tables, index) for index in picked)


def same(results: Results, tables: dict[str, Any], index: int) -> bool:
    latent = LatentId(CODER, index)
    (explanation,) = results.explanations(latent=latent)
    texts = tables[CODER][index]["text"] == explanation.text
    first = 2 * OUTCOMES * index
    rows = tables[f"{CODER}.outcomes"][first : first + 2 * OUTCOMES]
    found = [
        outcome
        for s in results.scores(latent=latent, outcomes=True)
        for outcome in s.score.outcomes
    ]
    columns = ("truth", "label", "probability", "source", "decile", "request")
    return texts and all(rows[name] == [getattr(o, name) for o in found] for name in columns)


def main(latents: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        make_run(run, latents)
        child = [sys.executable, __file__, "--export", str(run)]
        done = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE).stdout)
        report("export_seconds", done["seconds"], "s", latents=latents, rows=done["rows"])
        report("export_cpu_seconds", done["cpu"], "s", latents=latents)
        report("export_peak_memory", done["peak"] / 2**20, "MiB", latents=latents)
        report("export_size", done["bytes"] / 2**20, "MiB", files=done["files"])
        began = time.perf_counter()
        equal = loaded(run / "export", run, Path(place) / "cache")
        report("load_dataset_seconds", time.perf_counter() - began, "s", same_rows=equal)
        if not equal:
            raise SystemExit("the data set does not have the rows of the run")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--export"]:
        export(Path(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:]))
