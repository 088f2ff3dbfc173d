"""Shards and merges that are killed end as those that were left alone."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from planted_coders import Planted
from small_run import left_alone, settings, start

from autointerp.cli import main
from autointerp.examples import layout
from autointerp.pipeline.results import Results

# A merge that kills itself at one of the steps that it takes.
DYING = """
import os, signal
from autointerp.examples import merging as stores
from autointerp.pipeline import results, shards
steps = 0
def counted(function):
    def step(*arguments, **options):
        global steps
        steps += arguments[1:2] != ("meta",)
        if steps == {step}:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return step
stores._absorb_coder = counted(stores._absorb_coder)
results.Results._insert = counted(results.Results._insert)
shards.Part.note_merged = counted(shards.Part.note_merged)
"""
# In the middle of a shard, before it is noted, in the middle of the next, before that is noted.
STEPS = {"collect": (4, 5), "explain": (3, 8), "score": (9,)}
SMALL_STEPS = "from autointerp.examples import negatives; negatives.CHUNK = 3"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "CHUNK_TOKENS", 4096)


def killed(arguments: list[str], before: str, seconds: float) -> bool:
    """Kill the command some seconds after it has begun to work; whether it was still running."""
    process = start(arguments, f"{before}\nprint('here', file=sys.stderr, flush=True)")
    assert process.stderr is not None
    process.stderr.readline()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    return process.returncode < 0


def rows(run: Path) -> list[tuple[object, ...]]:
    with Results.read(run / "results.sqlite") as results:
        explanations = [(*row[:9], row[10]) for row in results.query("SELECT * FROM explanations")]
        scores = [(*row[:11], *row[12:]) for row in results.query("SELECT * FROM scores")]
    return [*explanations, *scores]


def store(run: Path) -> dict[str, bytes]:
    folder = run / "examples"
    files = {p for p in folder.rglob("*") if p.is_file() and p.name != "store.json"}
    return {
        p.name if "negatives" in str(p) else str(p.relative_to(folder)): p.read_bytes()
        for p in files
    }


def test_a_killed_merge_loses_nothing_and_takes_nothing_twice(
    tmp_path: Path, planted: Planted
) -> None:
    chosen = settings(planted, "alive:6", "alive:4")
    alone = left_alone(tmp_path / "alone", chosen)
    run = tmp_path / "run"
    merge = ["merge", str(run)]
    for stage in ("collect", "explain", "score"):
        for text in ("1/2", "2/2"):
            more = chosen if stage == "collect" else []
            assert main([stage, "--shard", text, "--run", str(run), "--json", *more]) == 0
        for step in STEPS[stage]:
            process = start(merge, DYING.format(step=step))
            process.communicate(timeout=60)
            assert process.returncode == -signal.SIGKILL
        assert main(merge) == 0
    assert not (run / "examples.unfinished").exists()
    assert store(run) == store(alone)
    assert rows(run) == rows(alone)


def test_a_killed_shard_goes_on_where_it_was(tmp_path: Path, planted: Planted) -> None:
    chosen = settings(planted, "alive:8", "alive:6")
    alone = left_alone(tmp_path / "alone", chosen, "collect")
    run, moments = tmp_path / "run", random.Random(1)
    shutil.copytree(alone, run)
    assert main(["run", "--json", "--run", str(alone)]) == 0
    for stage in ("explain", "score"):
        for text in ("1/2", "2/2"):
            command = [stage, "--shard", text, "--run", str(run), "--json"]
            killed(command, SMALL_STEPS, moments.uniform(1.0, 4.0))
            assert main(command) == 0
        assert main(["merge", str(run)]) == 0
    assert rows(run) == rows(alone)
