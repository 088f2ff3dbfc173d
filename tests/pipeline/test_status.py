"""status.json: what a run says of itself, while it runs and after it was killed."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small_run import document

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.pipeline import session, status
from autointerp.pipeline.directory import writing
from autointerp.pipeline.results import Results
from autointerp.pipeline.status import StatusWriter, is_running, read_status, write_atomically

STATUS = {
    "run": "r", "latents": 9, "explained": 3, "failed": 0, "by_status": {"explained": 3},
    "scores": {}, "cost": {}, "seconds": 4.2, "stage": "explain", "reason": None, "seed": 0,
}  # fmt: skip


def left_behind(folder: Path, **fields: Any) -> Path:
    """A run directory as a process leaves it that was killed."""
    with writing(folder):
        write_atomically(folder / "status.json", json.dumps({**STATUS, **fields}))
    return folder


def test_a_killed_run_is_not_said_to_be_in_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = left_behind(tmp_path / "run")
    assert main(["status", str(folder)]) == 0
    assert "stopped in explain and not running; run it again" in capsys.readouterr().out
    assert document(capsys, "status", str(folder))["running"] is False


def test_a_run_in_progress_is_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = left_behind(tmp_path / "run")
    with writing(folder):
        found = document(capsys, "status", str(folder))
        assert main(["status", str(folder)]) == 0
    assert (found["running"], found["stage"]) == (True, "explain")
    assert "r: explain, 4 s" in capsys.readouterr().out


def test_a_finished_run_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = left_behind(tmp_path / "run", stage="done")
    assert main(["status", str(folder)]) == 0
    assert "r: done, 4 s" in capsys.readouterr().out


def test_looking_at_the_status_keeps_no_run_from_starting(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "run")
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            is_running(folder)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(50):
            with writing(folder):
                pass
    finally:
        looking.set()
        thread.join()


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    with (
        writing(tmp_path / "run"),
        pytest.raises(AutointerpError, match="another process is running in"),
        writing(tmp_path / "run"),
    ):
        pass


def test_a_directory_without_a_lock_is_not_running(tmp_path: Path) -> None:
    assert not is_running(tmp_path)


def test_a_full_disk_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that failed in between are made up for; the last one must not fail."""
    monkeypatch.setattr(status, "SECONDS_BETWEEN", 0.005)
    full = False
    calls = []

    def describe() -> dict[str, Any]:
        calls.append(full)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return {"calls": len(calls)}

    def wait_for(value: bool) -> None:
        nonlocal full
        full, before = value, len(calls)
        while calls[before:].count(value) < 2:
            time.sleep(0.005)

    with StatusWriter(tmp_path, describe):
        wait_for(True)
        wait_for(False)
    assert read_status(tmp_path) == {"calls": len(calls)}
    full = False
    with pytest.raises(OSError, match="No space left"), StatusWriter(tmp_path, describe):
        full = True
    full = False
    with pytest.raises(KeyError, match="its own"), StatusWriter(tmp_path, describe):
        full = bool({}["its own"])


def test_a_mistake_in_what_is_described_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "SECONDS_BETWEEN", 0.005)
    calls = []
    called = threading.Event()

    def describe() -> dict[str, Any]:
        calls.append(1)
        if len(calls) > 1:
            called.set()
            raise ValueError("no such thing")
        return {}

    with pytest.raises(ValueError, match="no such thing"), StatusWriter(tmp_path, describe):
        assert called.wait(10)


def test_a_running_run_is_not_read_over_and_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told meanwhile costs the same however many rows there are; the end is exact."""
    calls = []

    def slow(*arguments: Any, **named: Any) -> dict[str, Any]:
        calls.append(1)
        return {"scores": {}, "by_status": {"explained": 20}, "summaries": len(calls)}

    monkeypatch.setattr(session, "summarise", slow)
    config = load_config(None, [f"run.directory={tmp_path}"])
    with session.session(config, lambda *_: None) as s:
        for index in range(20):
            s.results.put_explanation(Explanation(LatentId("layers.0", index), "x", "agent"))
            document = s.describe()
            assert document["by_status"] == {"explained": index + 1}
            assert document["explained"] == document["latents"] == index + 1
        assert not calls
        s.summary()
    last = read_status(s.path)
    assert last is not None
    assert last["summaries"] == len(calls) == 1
    assert last["latents"] == 20


def test_statuses_are_counted(tmp_path: Path) -> None:
    with Results.open(tmp_path / "r.sqlite") as results:
        for index in range(5):
            kind = "dead" if index < 2 else "explained"
            results.put_explanation(Explanation(LatentId("a", index), "", "x", status=kind))
        results.put_explanation(Explanation(LatentId("a", 0), "", "y"))
        assert results.statuses("x") == {"dead": 2, "explained": 3}
        assert results.statuses("z") == {}


@pytest.mark.parametrize(
    ("stage", "age", "running"), [("score", 3, True), ("score", 300, False), ("done", 3, False)]
)
def test_a_run_on_another_machine_is_told_by_how_fresh_its_status_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, age: int, running: bool
) -> None:
    """Over a shared directory the lock of another machine may not be seen."""
    written = time.time() - age
    folder = left_behind(tmp_path / "run", stage=stage, host="elsewhere", written=written)
    os.utime(folder / "status.json", (written, written))
    found = document(capsys, "status", str(folder))
    assert found["running"] is running
    assert age - 0.1 <= found["age"] <= time.time() - written + 0.1  # rounded


def test_a_fresh_status_of_a_killed_process_here_is_not_believed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = socket.gethostname()
    folder = left_behind(tmp_path / "run", host=host, written=time.time())
    assert document(capsys, "status", str(folder))["running"] is False


def test_a_process_at_work_that_writes_no_status_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = time.time() - 600
    folder = left_behind(tmp_path / "run", host="n1", written=written)
    os.utime(folder / "status.json", (written, written))
    with writing(folder):
        assert main(["status", str(folder)]) == 0
    assert "r: explain, 4 s on n1; no news for 10 min" in capsys.readouterr().out
