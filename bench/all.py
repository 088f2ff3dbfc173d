"""All benchmarks, one after the other, and what they found as a table.

Usage: python bench/all.py [--full] [NAME ...]. Runs every program in bench/ that prints figures (or
those named), each in a process of its own and, unless ``--full`` is given, in a size that takes a
minute or two. Their JSON lines go through as they come, and a Markdown table follows: each figure,
its value, and the bar that it is to reach where there is one. Exit code 1 if a program failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
HELPERS = ("all", "loopback", "scoring_delphi")  # these print no figures of their own
SMALL: Mapping[str, Sequence[str]] = {
    "agent": ["20"],
    "collect": ["demo_one", "memory"],
    "evidence": ["200000", "128"],
    "export": ["5000"],
    "faults": ["20", "2"],
    "intervention": ["16", "1"],
    "llm_client": ["300", "3"],
    "overnight": ["400"],
    "probing": ["32", "1"],
    "report": ["10000"],
    "saturation": ["10"],
    "scoring": ["16", "100000"],
    "sequential": ["2000"],
    "viewer": ["50000"],
}
HEADINGS = ("benchmark", "figure", "value", "bar")

Figure = dict[str, Any]


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in HELPERS)


def figures(name: str, arguments: Sequence[str]) -> Iterator[Figure]:
    """What one benchmark prints, as it comes. Raises CalledProcessError if it fails."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def table(found: Sequence[Figure]) -> str:
    """Markdown: a row a figure."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *map(_row, found)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(figure: Figure) -> tuple[str, str, str, str]:
    unit = figure.get("unit", "")
    value = figure["value"]
    shown = f"{value:,}" if isinstance(value, int | float) else str(value)
    told = shown if unit in ("", "ratio", "count") else f"{shown} {unit}"
    bar = figure.get("bar")
    return str(figure["bench"]), str(figure["figure"]), told, "" if bar is None else f"{bar:g}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="all benchmarks, and a table of what they found")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--full", action="store_true", help="in their own sizes: hours")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.names) - set(names())):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    found: list[Figure] = []
    failed: list[str] = []
    for name in options.names or names():
        try:
            found += figures(name, () if options.full else SMALL.get(name, ()))
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} ended with {error.returncode}")
    print(f"\n{table(found)}")
    print("".join(f"\n{line}" for line in failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
