"""What a running command shows on standard error: a panel, or a plain line now and then."""

from __future__ import annotations

import json
import os
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autointerp.pipeline.status import write_atomically
from autointerp.report import live

STATUS: dict[str, Any] = {
    "stage": "explain",
    "progress": {
        "stage": "explain", "done": 3, "total": 9, "per_second": 0.5, "seconds_left": 12.0,
    },
    "llm": {
        "requests": 7, "journaled": 0, "requests_per_second": 2.0, "in_flight": 4,
        "cached_share": 0.5, "faults": {"busy": 1}, "repaired": 0, "unusable": 0, "unpriced": 0,
    },
    "budget": {"dollars": {"spent": 0.5, "limit": 2.0}},
    "failures": {"no answer": 1},
    "scores": {},
}  # fmt: skip


def status(run: Path, **fields: Any) -> None:
    write_atomically(run / "status.json", json.dumps({**STATUS, "pid": os.getpid(), **fields}))


def test_elsewhere_than_on_a_terminal_plain_lines_tell_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "SECONDS_BETWEEN_LINES", 0.01)
    status(tmp_path)
    errors = ""
    with live.observer(tmp_path) as observe:
        observe("explain", 1, 9)
        while not errors:
            time.sleep(0.01)
            errors = capsys.readouterr().err
    line = errors.splitlines()[0]
    assert line.partition(" ")[2] == (
        "explain 3 of 9 (33%), 0.5/s, 12 s left; 2 requests/s, 4 in flight, 7 answered,"
        " 50% of prompt tokens cached; spent: $0.5 of $2; failed: no answer 1;"
        " sent again after answers that the server is busy: once"
    )


def test_nothing_is_shown_of_what_is_refused_or_soon_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status(tmp_path)
    with live.observer(tmp_path):
        pass
    with live.observer(tmp_path) as observe:
        observe("explain", 1, 9)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_bars_and_the_status_below(tmp_path: Path) -> None:
    status(tmp_path)
    console = Console(file=StringIO(), force_terminal=True, width=100, color_system=None)
    with live.Panel(console, tmp_path) as panel:
        panel("collect", 9, 9)
        panel("explain", 3, 9)
        shown = Console(width=100, record=True, file=StringIO())
        shown.print(panel)
    lines = [line.strip() for line in shown.export_text().splitlines()]
    assert lines[0].startswith("collect")
    assert "3/9" in lines[1]
    assert lines[2:] == [
        "2 requests/s, 4 in flight, 7 answered, 50% of prompt tokens cached",
        "spent: $0.5 of $2",
        "failed: no answer 1",
        "sent again after answers that the server is busy: once",
    ]


def test_the_status_of_an_earlier_process_is_not_shown(tmp_path: Path) -> None:
    status(tmp_path, pid=-1)
    shown = Console(width=100, record=True, file=StringIO())
    with live.Panel(Console(file=StringIO()), tmp_path) as panel:
        shown.print(panel)
    assert "requests" not in shown.export_text()
