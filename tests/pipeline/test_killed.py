"""Killed while it collects or prepares, a run ends as one that was left alone."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_coders import Planted
from small_run import contents, settings, start

from autointerp.cli import main
from autointerp.examples import layout, streaming

# In small steps, with a checkpoint whenever one is due, there is much to be killed in.
SMALL_STEPS = """
from autointerp.examples import harvest, layout, negatives, streaming
layout.CHUNK_TOKENS = streaming.CHUNK_TOKENS = 4096
harvest.collect.__kwdefaults__["checkpoint_seconds"] = 0.0
negatives.CHUNK = 1
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, the chunks of the processes that are killed."""
    for module in (layout, streaming):
        monkeypatch.setattr(module, "CHUNK_TOKENS", 4096)


def killed(arguments: list[str], begun: Callable[[], bool], after: float) -> bool:
    """Kill the command some seconds after something has begun; whether it was still running."""
    process = start(arguments, SMALL_STEPS)
    while not begun() and process.poll() is None:
        time.sleep(0.002)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.kill()
    process.communicate()
    return process.returncode < 0


def store(run: Path) -> dict[str, bytes]:
    """Every file of an example store, less what the header tells of how fast it went."""
    folder = run / "examples"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    header = json.loads(files.pop("store.json"))
    del header["report"]
    return {**files, "store.json": json.dumps(header).encode()}


def checkpoints(run: Path) -> set[str]:
    """The names of the checkpoints there are; later ones have other names."""
    return {p.name for p in (run / "examples" / "partial").glob("state-*") if not p.suffix}


def test_collect_ends_with_the_same_bytes(tmp_path: Path, planted: Planted) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    chosen = [*settings(planted), "corpus.tokens=80000"]
    arguments = ["collect", "--json", "--run", str(run), *chosen]
    moments = random.Random(0)
    for _ in range(2):
        before = checkpoints(run)

        def further(before: set[str] = before) -> bool:
            return bool(checkpoints(run) - before)

        assert killed(arguments, further, moments.uniform(0, 0.3))
        assert further()
    assert not (run / "examples" / "store.json").exists()
    assert main(arguments) == 0
    assert main(["collect", "--json", "--run", str(alone), *chosen]) == 0
    assert store(run) == store(alone)


def test_prepare_ends_with_the_same_scores(tmp_path: Path, planted: Planted) -> None:
    run, alone = tmp_path / "run", tmp_path / "alone"
    chosen = settings(planted, "alive:12", "alive:12")
    assert main(["collect", "--json", "--run", str(alone), *chosen]) == 0
    shutil.copytree(alone, run)

    def shards() -> int:
        return len(list((run / "examples").glob("negatives-*/*.npz")))

    assert killed(["run", "--run", str(run), *chosen], lambda: shards() > 3, 0.0)
    assert 3 < shards() < 24
    assert main(["run", "--json", "--run", str(run), *chosen]) == 0
    assert main(["run", "--json", "--run", str(alone), *chosen]) == 0
    assert contents(run) == contents(alone)
