"""A run that is killed again and again ends as one that was left alone."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from small_run import contents

KILLS = 10
SETTINGS = ("corpus.tokens=60000", "latents.layers.0=alive:6", "latents.layers.1=alive:6")


def start(run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "autointerp", "run", "--json", "--run", str(run), *SETTINGS]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(run: Path) -> None:
    process = start(run)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_killed_ten_times_equals_one_left_alone(tmp_path: Path) -> None:
    moments = random.Random(0)
    for _ in range(KILLS):
        process = start(tmp_path / "killed")
        try:
            process.wait(timeout=moments.uniform(0.5, 9))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    finish(tmp_path / "killed")
    finish(tmp_path / "alone")
    explanations, scores = contents(tmp_path / "alone")
    assert len(explanations) == 12
    assert {s.control for s in scores} >= {"", "shuffled", "empty"}
    assert contents(tmp_path / "killed") == (explanations, scores)
