"""The status of shards added up, from files alone; and directories that other machines work in."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from small_run import document, heavy_imports, refusal

from autointerp.cli import main
from autointerp.config import RunConfig
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.pipeline import directory, shards
from autointerp.pipeline.directory import writing
from autointerp.pipeline.network import is_on_network
from autointerp.pipeline.shard_status import added_up
from autointerp.pipeline.shards import Part

STATUS: dict[str, Any] = {
    "run": "r", "latents": 6, "explained": 3, "failed": 1, "by_status": {"explained": 3},
    "scores": {}, "cost": {"requests": 2, "dollars": 0.5}, "seconds": 4.0, "stage": "explain",
    "reason": None, "seed": 0, "host": "elsewhere",
    "budget": {"dollars": {"spent": 0.5, "limit": 2.0}},
    "progress": {"stage": "explain", "done": 3, "total": 6, "per_second": 0, "seconds_left": None},
}  # fmt: skip


def put(run: Path, name: str, record: dict[str, Any], **fields: Any) -> None:
    folder = run / "shards" / name
    folder.mkdir(parents=True)
    told = {**STATUS, "written": time.time(), **fields}
    (folder / "status.json").write_text(json.dumps(told))
    (folder / "shard.json").write_text(json.dumps(record))


def figures(n: int, mean: float, half: float, control: float) -> dict[str, Any]:
    interval = {"n": n, "mean": mean, "low": mean - half, "high": mean + half}
    controls = {"shuffled": {"n": n, "mean": control, "low": 0, "high": 1}}
    return {"d": {"metric": "m", "chance": 0.5, **interval, "control_intervals": controls}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    done = {"plan": "p"}
    put(run, "1-of-4", {"explain": done}, stage="done", scores=figures(3, 0.6, 0.04, 0.5))
    put(run, "2-of-4", {"explain": None}, scores=figures(1, 0.8, 0.08, 0.4))
    put(run, "4-of-4", {"explain": None}, written=0.0)
    status = run / "shards" / "4-of-4" / "status.json"
    past = time.time() - 3600
    os.utime(status, (past, past))
    return run


def test_shards_are_added_up(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "status", str(run))
    assert (found["latents"], found["explained"], found["failed"]) == (18, 9, 3)
    assert found["by_status"] == {"explained": 9}
    assert found["cost"] == {"requests": 6, "dollars": 1.5}
    assert found["budget"]["dollars"] == {"spent": 1.5, "limit": 6.0}
    assert (found["running"], found["stage"]) == (True, "explain in 4 shards")
    states = {name: shard["state"] for name, shard in found["shards"].items()}
    assert states == {
        "1-of-4": "finished", "2-of-4": "at work", "3-of-4": "not begun", "4-of-4": "stopped",
    }  # fmt: skip
    scores = found["scores"]["d"]
    assert scores["mean"] == pytest.approx((3 * 0.6 + 0.8) / 4)
    assert scores["mean"] - scores["low"] == pytest.approx((0.12**2 + 0.08**2) ** 0.5 / 4)
    assert scores["controls"] == {"shuffled": pytest.approx((3 * 0.5 + 0.4) / 4)}
    assert main(["status", str(run)]) == 0
    said = capsys.readouterr().out
    assert "explain in 4 shards: 1 finished, 1 at work, 1 not begun, 1 stopped" in said
    assert "at work: 2/4 (explain 3 of 6) on elsewhere" in said
    assert "not begun: 3/4" in said


def test_merged_shards_are_the_run_s(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (2, 3, 4):
        folder = run / "shards" / f"{number}-of-4"
        folder.mkdir(exist_ok=True)
        (folder / "status.json").write_text(json.dumps({**STATUS, "stage": "done"}))
        (folder / "shard.json").write_text(json.dumps({"explain": {"plan": "p"}}))
    assert main(["status", str(run)]) == 0
    assert f"all shards are finished: autointerp merge {run}" in capsys.readouterr().out
    folders = [f"{number}-of-4" for number in (1, 2, 3, 4)]
    (run / "merged.json").write_text(
        json.dumps({"explain": {key: {"plan": "p"} for key in folders}})
    )
    assert added_up(run) is None
    assert "no run at" in refusal(capsys, ["status", str(run)])
    (run / "status.json").write_text(json.dumps({**STATUS, "stage": "done", "latents": 20}))
    assert document(capsys, "status", str(run))["latents"] == 20


def test_the_status_of_shards_imports_nothing_heavy(run: Path) -> None:
    assert heavy_imports("status", str(run)) == "[]"


def test_merging_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run at" in refusal(capsys, ["merge", str(tmp_path / "absent")])
    assert "no run at" in refusal(capsys, ["merge", str(tmp_path)])
    (tmp_path / "config.yaml").write_text("{}")
    assert "has no shards to merge" in refusal(capsys, ["merge", str(tmp_path)])


def test_exit_codes_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["run", "--help"], ["score", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        assert "130 interrupted" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which a process on another machine has just written its status."""
    monkeypatch.setattr(directory, "FRESH", 0.5)
    monkeypatch.setattr(directory, "WAIT", 0.05)
    told = {**STATUS, "written": time.time()}
    (tmp_path / "status.json").write_text(json.dumps(told))
    return tmp_path


def test_a_process_on_another_machine_is_not_joined(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "FRESH", 60)  # however late the other writes

    def write() -> None:
        time.sleep(0.1)
        told = {**STATUS, "written": time.time()}
        (elsewhere / "status.json").write_text(json.dumps(told))

    other = threading.Thread(target=write)
    other.start()
    with (
        pytest.raises(AutointerpError, match=r"another process is running in .*, on elsewhere"),
        writing(elsewhere),
    ):
        pass
    other.join()


def test_one_that_ended_on_another_machine_is_taken_over(elsewhere: Path) -> None:
    with writing(elsewhere):
        pass


def test_a_journal_on_a_network_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, mounts = tmp_path / "my home", tmp_path / "mounts"
    escaped = str(home).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/home {escaped} nfs4 rw 0 0\n")
    assert is_on_network(home / ".cache" / "journal.sqlite", mounts)
    assert not is_on_network(tmp_path / "journal.sqlite", mounts)
    assert not is_on_network(home, tmp_path / "absent")
    config = RunConfig.model_validate({"budget": {"dollars": 8}, "run": {"directory": tmp_path}})
    part = Part("explain", Shard(4, 3))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    assert part.config(config).journal is None
    monkeypatch.setattr(shards, "is_on_network", lambda path: is_on_network(path, mounts))
    told = part.config(config)
    assert told.journal == tmp_path / "demo" / "shards" / "3-of-4" / "journal.sqlite"
    assert told.budget.dollars == 2


def test_a_file_system_without_locks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    refused = pytest.raises(AutointerpError, match="keeps no locks; mount it with them")
    with refused, writing(tmp_path):
        pass
