"""A disk that is full, or fills up: one line, exit 2, and the run goes on when there is room."""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from planted_coders import Planted
from small_run import contents, document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.latents import Explanation, LatentId
from autointerp.pipeline.results import Results

Usage = namedtuple("Usage", "total used free")
FULL = Path("/dev/full")  # every write to it says that there is no space left
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here: Linux has it")


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Writes beyond ``size`` bytes fail, as those to a full disk do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def alone(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing befell."""
    return left_alone(tmp_path_factory.mktemp("alone"), settings(planted))


def test_too_little_room_is_told_before_any_work(
    tmp_path: Path,
    planted: Planted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - 2**20, 2**20))
    line = refusal(capsys, ["run", "--run", str(run), *settings(planted)])
    assert f"{run} needs about" in line
    assert "has 1 MiB free" in line
    assert not (run / "examples").exists()


def test_what_a_killed_pass_has_written_needs_no_room_again(
    tmp_path: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "examples" / "partial").mkdir(parents=True)
    with (run / "examples" / "partial" / "left.bin").open("wb") as file:
        file.truncate(2**34)  # takes no room of its own
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40 - 2**20, 2**20))
    assert main(["collect", "--json", "--run", str(run), *settings(planted)]) == 0


@pytest.mark.parametrize("size", [100, 70_000])
def test_a_disk_that_fills_up_while_collecting(
    tmp_path: Path,
    planted: Planted,
    alone: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
) -> None:
    run = tmp_path / "run"
    arguments = ["run", "--run", str(run), *settings(planted)]
    with no_file_larger_than(size):
        line = refusal(capsys, arguments)
    assert "cannot write" in line
    assert "free some space and run again to continue" in line
    assert not (run / "examples" / "store.json").exists()
    document(capsys, *arguments)
    assert contents(run) == contents(alone)


@pytest.mark.parametrize("size", [40_000, 60_000])
def test_a_disk_that_fills_up_while_results_are_written(
    tmp_path: Path,
    planted: Planted,
    alone: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
) -> None:
    run = tmp_path / "run"
    arguments = ["run", "--run", str(run), *settings(planted)]
    document(capsys, "collect", *arguments[1:])
    with no_file_larger_than(size):
        line = refusal(capsys, arguments)
    assert "cannot write results" in line
    assert "free some space and run again to continue" in line
    assert contents(run) != contents(alone)
    status = document(capsys, "status", str(run))
    assert not status["running"]
    assert status["stage"] != "done"
    document(capsys, *arguments)
    assert contents(run) == contents(alone)


@needs_full
@pytest.mark.parametrize(
    "file",
    [
        "examples/coders/0/values.npy",
        "log.jsonl",
        ".status.json.unfinished",
    ],
)
def test_no_space_left(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    run = tmp_path / "run"
    (run / file).parent.mkdir(parents=True)
    (run / file).symlink_to(FULL)
    arguments = ["run", "--run", str(run), *settings(planted, "alive:2", "alive:2")]
    line = refusal(capsys, arguments)
    assert "full" in line or "No space left on device" in line
    assert "free some space and run again to continue" in line
    (run / file).unlink()
    assert document(capsys, *arguments)["failed"] == 0


def test_unfinished_files_do_not_pile_up(alone: Path) -> None:
    assert not list(alone.rglob("*.unfinished"))
    assert not list(alone.rglob("*.writing"))
    assert json.loads((alone / "status.json").read_text())["stage"] == "done"


def test_a_row_too_large_for_the_disk_leaves_the_file_whole(tmp_path: Path) -> None:
    """SQLite gives a transaction up by itself when it cannot spill it to the disk."""
    latent = LatentId("a", 0)
    with Results.open(tmp_path / "r.sqlite") as results:
        with (
            no_file_larger_than(2**20),
            pytest.raises(sqlite3.OperationalError, match="disk I/O error"),
        ):
            results.put_explanation(Explanation(latent, "x" * 2**23, "by hand"))
        assert results.explanations() == []
        results.put_explanation(Explanation(latent, "x", "by hand"))
        assert len(results.explanations()) == 1
