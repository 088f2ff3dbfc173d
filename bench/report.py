"""Seconds and memory of `autointerp report` on a synthetic run.

Usage: python bench/report.py [LATENTS]. Prints one JSON object a figure; making the run is not
timed. The report is made by a process of its own, whose peak memory is told.
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

from autointerp.latents import Explanation, Label, LatentId, Metric, Score
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored, explanation_row, score_row

CODERS = ("layers.0", "layers.1")
SCORERS = ("detection", "fuzzing")
CONTROLS = ("shuffled", "empty", "neighbour", "token_list")
CONTROLLED = 64  # latents that have controls, as in a run
ITEMS = 20
WORDS = ("verbs", "nouns", "code", "numbers", "names", "after", "in", "of", "brackets", "quotes")


def latents(count: int) -> Iterator[tuple[LatentId, np.random.Generator]]:
    """Latents in order, each with its random numbers."""
    for coder in CODERS:
        for index in range(count // len(CODERS)):
            yield LatentId(coder, index), np.random.default_rng((index, CODERS.index(coder)))


def explanation(latent: LatentId, rng: np.random.Generator) -> Explanation:
    """One in a hundred failed."""
    if rng.random() < 0.01:
        reason = "LLMFailure: no answer in 5 attempts"
        return Explanation(latent, "", "single_pass", status="failed", reason=reason)
    text = " ".join(rng.choice(WORDS, 12))
    return Explanation(latent, text, "single_pass", confidence=float(rng.random()))


def score(of: Explanation, scorer: str, rng: np.random.Generator, control: str = "") -> Scored:
    """With as many metrics as a detection score has."""
    value = float(rng.beta(6, 3)) if not control else float(rng.normal(0.5, 0.1))
    metric = Metric(value, value - 0.1, value + 0.1, ITEMS)
    names = ["balanced_accuracy", "hard", "token", "recall", "specificity_random", "f1", "mcc"]
    names += ["specificity_token", "precision", "worst_case", "best_case"]
    names += [f"recall_decile_{d}" for d in range(10)]
    metrics = dict.fromkeys(names, metric)
    outcomes = [
        Label(bool(i % 2), bool(rng.random() < value), None, "random") for i in range(ITEMS)
    ]
    place = {"latent": of.latent, "explanation": of.id, "scorer": scorer, "judge": "llm"}
    made = Score(**place, headline=names[0], chance=0.5, metrics=metrics, outcomes=outcomes)
    return Scored(made, control)


def write_run(run: Path, count: int) -> None:
    """A results file and a status, as a run leaves them."""
    Results.open(run / "results.sqlite").close()
    with sqlite3.connect(run / "results.sqlite") as connection:
        for number, (latent, rng) in enumerate(latents(count)):
            written = explanation(latent, rng)
            insert(connection, "explanations", explanation_row(written))
            if written.status == "failed":
                continue
            controls = ("", *CONTROLS) if number < CONTROLLED else ("",)
            for scorer in SCORERS:
                for control in controls:
                    insert(connection, "scores", score_row(score(written, scorer, rng, control)))
    with Results.read(run / "results.sqlite") as results:
        counts = results.statuses("single_pass")
    status: dict[str, Any] = {"run": str(run), "stage": "done", "latents": count, "failed": 0}
    status |= {"explained": counts["explained"], "by_status": counts, "scores": {}, "seconds": 0.0}
    costs = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "dollars")
    status["cost"] = dict.fromkeys(costs, 0)
    (run / "status.json").write_text(json.dumps(status))


def insert(connection: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def main(count: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        write_run(run, count)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "autointerp", "report", str(run), "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (run / "report.html").stat().st_size
    told("seconds", round(seconds, 2), "s", count)
    told("cpu_seconds", round(spent.ru_utime + spent.ru_stime, 2), "s", count)
    told("peak_memory", spent.ru_maxrss * 1024, "bytes", count)
    told("file_size", size, "bytes", count)


def told(figure: str, value: float, unit: str, count: int) -> None:
    found = {"bench": "report", "figure": figure, "value": value, "unit": unit, "latents": count}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
