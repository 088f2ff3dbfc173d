"""The benchmarks of whole runs: small ones, and that what they find is what is wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


def bench(name: str, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """The figures that a program prints."""
    command = [sys.executable, str(BENCH / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_all_of_them_are_known_and_others_refused() -> None:
    command = [sys.executable, str(BENCH / "all.py"), "nosuch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "no such benchmark: nosuch" in done.stderr
    helped = subprocess.run([*command[:2], "--help"], capture_output=True, text=True, timeout=60)
    programs = {path.stem for path in BENCH.glob("*.py")} - {"all", "loopback", "scoring_delphi"}
    assert all(name in helped.stdout for name in programs)


def test_figures_become_a_table() -> None:
    sys.path.insert(0, str(BENCH))
    try:
        import all as every
    finally:
        sys.path.remove(str(BENCH))
    found = [
        {"bench": "b", "figure": "f", "value": 1234.5, "unit": "latents/s"},
        {"bench": "b", "figure": "g", "value": 1, "unit": "ratio", "bar": 1.1},
    ]
    assert every.table(found).splitlines() == [
        "| benchmark | figure | value | bar |",
        "| --- | --- | --- | --- |",
        "| b | f | 1,234.5 latents/s |  |",
        "| b | g | 1 | 1.1 |",
    ]


@pytest.mark.slow
def test_kills_of_all_kinds_and_a_full_disk_leave_no_trace() -> None:
    figures = bench("faults", "12", "1")
    assert {f["figure"]: f["value"] for f in figures} == {
        "rows that differ": 0,
        "asked again": 0,
        "half-written files": 0,
    }
    assert figures[0]["unexpected"] == []
    if "disk" not in figures[0]["faults"]:
        pytest.skip("no tmpfs can be mounted, as root may: all faults but a full disk were tried")


@pytest.mark.slow
def test_servers_are_kept_busy_whatever_they_do() -> None:
    """Far below the bars, which want a machine without other work."""
    figures = {f["figure"]: f for f in bench("saturation", "7")}
    assert figures["in flight"]["value"] > 0.6
    assert all(f["value"] > 0.5 and f["failed"] == 0 for f in figures.values())
