"""Runs in shards: merged they are the run of one process, and nothing half done is merged."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from planted_coders import Planted
from small_run import contents, document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.examples import layout
from autointerp.pipeline.directory import writing
from autointerp.pipeline.results import Results

CHUNK = 4096  # tokens of a group of documents, of which 20,000 tokens then have a few


@pytest.fixture(scope="module", autouse=True)
def _small_groups() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_TOKENS", CHUNK)
        yield


@pytest.fixture(scope="module")
def chosen(planted: Planted) -> list[str]:
    return settings(planted, "alive:7", "alive:4")


@pytest.fixture(scope="module")
def alone(chosen: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    return left_alone(tmp_path_factory.mktemp("alone"), chosen)


def shard(stage: str, text: str, run: Path, *more: str) -> int:
    return main([stage, "--shard", text, "--run", str(run), "--json", *more])


def merged(run: Path, code: int = 0) -> int:
    return main(["merge", str(run), "--json"])


@pytest.fixture(scope="module")
def collected(chosen: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose examples were collected in three shards, and merged."""
    run = tmp_path_factory.mktemp("collected") / "run"
    for text in ("3/3", "1/3", "2/3"):
        assert shard("collect", text, run, *chosen) == 0
    assert merged(run) == 0
    return run


@pytest.fixture(scope="module")
def explained(collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, explained in two shards that are merged."""
    run = Path(shutil.copytree(collected, tmp_path_factory.mktemp("explained") / "run"))
    for text in ("2/2", "1/2"):
        assert shard("explain", text, run) == 0
    assert merged(run) == 0
    return run


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def arrays(run: Path) -> dict[str, bytes]:
    """The files of a run's store and of its negatives, less how fast they were collected. The
    folder of the negatives is named after all of the header."""
    folder = run / "examples"
    files = {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    named = {
        f"negatives/{path.name}" if path.parts[0].startswith("negatives") else str(path): content
        for path, content in files.items()
        if path.name != "collect.json"
    }
    header = json.loads(named.pop("store.json"))
    del header["report"]
    return {**named, "store.json": json.dumps(header).encode()}


def rows(run: Path) -> tuple[list[Any], list[Any]]:
    """Every row as it is stored, less its cost, in the order of the keys."""
    with Results.read(run / "results.sqlite") as results:
        explanations = [(*row[:9], row[10]) for row in results.query("SELECT * FROM explanations")]
        scores = [(*row[:11], *row[12:]) for row in results.query("SELECT * FROM scores")]
    return explanations, scores


def test_merged_shards_have_the_bytes_of_one_process(
    explained: Path, alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(explained, tmp_path)
    for text in ("1/3", "3/3", "2/3"):  # another division than that of explaining
        assert shard("score", text, run) == 0
    assert merged(run) == 0
    assert arrays(run) == arrays(alone)
    assert rows(run) == rows(alone)
    capsys.readouterr()
    found = document(capsys, "run", "--run", str(run))  # nothing is left to do
    told = document(capsys, "status", str(alone))
    for key in ("latents", "explained", "by_status", "scores"):
        assert found[key] == told[key]
    assert rows(run) == rows(alone)
    assert document(capsys, "compare", str(run), str(alone))


def test_shards_write_nothing_but_their_own_directory(collected: Path, tmp_path: Path) -> None:
    run = copied(collected, tmp_path)

    def shared() -> dict[str, bytes]:
        files = (p for p in run.rglob("*") if p.is_file() and run / "shards" not in p.parents)
        return {str(p): p.read_bytes() for p in files if not p.name.endswith((".lock", "-shm"))}

    before = shared()
    assert shard("explain", "1/2", run) == 0
    assert shared() == before


def test_merging_says_what_is_missing_and_is_done_once(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(collected, tmp_path)
    capsys.readouterr()
    assert shard("explain", "2/3", run) == 0
    capsys.readouterr()
    assert merged(run) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["missing"] == {"explain": ["1/3", "3/3"]}
    assert captured.err.splitlines()[-1] == (
        f"autointerp: {run}: explain shards not begun: 1/3, 3/3; wait for them, or run"
        f" `autointerp explain --shard 1/3 --run {run}`"
    )
    assert contents(run) == ([], [])
    for text in ("1/3", "3/3"):
        assert shard("explain", text, run) == 0
    capsys.readouterr()
    first = document(capsys, "merge", str(run))
    assert first["merged"] == {"explain": ["1/3", "2/3", "3/3"]}
    assert first["already"] == {"collect": ["1/3", "2/3", "3/3"]}
    assert document(capsys, "status", str(run))["explained"] == 10
    before = rows(run)
    again = document(capsys, "merge", str(run))
    assert again["merged"] == again["missing"] == {}
    assert rows(run) == before


def test_a_stage_s_shard_needs_what_comes_before(
    collected: Path, chosen: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    for stage in ("explain", "score"):
        said = refusal(capsys, [stage, "--shard", "1/2", "--run", str(new), *chosen])
        assert "needs the examples of the whole run" in said
    assert shard("collect", "1/2", new, *chosen) == 0
    assert "needs the examples" in refusal(capsys, ["explain", "--shard", "1/2", "--run", str(new)])
    said = refusal(capsys, ["run", "--run", str(new), *chosen])
    assert "not merged yet: collect shards 1/2 and 2/2;" in said
    assert f"`autointerp merge {new}`" in said
    run = copied(collected, tmp_path)
    assert "no results" not in refusal(capsys, ["explain", "--shard", "3/2", "--run", str(run)])
    assert shard("explain", "1/2", run) == 0
    said = refusal(capsys, ["score", "--shard", "1/2", "--run", str(run)])
    assert "not merged yet: explain shards 1/2 and 2/2;" in said
    said = refusal(capsys, ["score", "--shard", "1/2", "--explanations", "f.csv"])
    assert "do not go together" in said
    with pytest.raises(SystemExit):
        main(["run", "--shard", "1/2"])


def test_a_half_written_shard_is_not_taken_for_whole(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(collected, tmp_path)
    for text in ("1/2", "2/2"):
        assert shard("explain", text, run) == 0
    broken = run / "shards" / "2-of-2"
    whole = tmp_path / "whole"
    shutil.copytree(broken, whole)
    connection = sqlite3.connect(broken / "results.sqlite")
    connection.execute(
        "DELETE FROM explanations WHERE latent = (SELECT max(latent) FROM explanations)"
    )
    connection.commit()
    connection.close()
    said = refusal(capsys, ["merge", str(run)])
    assert "explain --shard 2/2" in said
    assert "a part of it is missing" in said
    shutil.rmtree(broken)
    shutil.copytree(whole, broken)
    with writing(broken):
        assert "another process is running in" in refusal(capsys, ["merge", str(run)])
    record = broken / "shard.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "explain": None}))  # killed before it was finished
    capsys.readouterr()
    assert merged(run) == 2
    assert "explain shards not finished: 2/2" in capsys.readouterr().err


@pytest.mark.slow
def test_shards_of_different_plans_or_settings_are_not_one_run(
    collected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(collected, tmp_path)
    assert shard("explain", "1/2", run) == 0
    assert shard("explain", "2/2", run, "latents.a=alive:5") == 0
    assert "were of different latents" in refusal(capsys, ["merge", str(run)])
    assert contents(run) == ([], [])
    assert shard("explain", "2/2", run) == 0
    assert merged(run) == 0


@pytest.mark.slow
def test_more_latents_in_shards_leave_what_is_merged_alone(
    explained: Path, chosen: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(explained, tmp_path)
    before, _ = rows(run)
    more = "latents.a=alive:9"
    for text in ("1/2", "2/2"):
        assert shard("explain", text, run, more) == 0
    assert merged(run) == 0
    after, _ = rows(run)
    assert len(after) == len(before) + 2
    assert set(map(str, before)) <= set(map(str, after))
    whole = left_alone(tmp_path / "whole", [*chosen, more], "explain")
    assert rows(whole)[0] == after
