"""A run as a data set: every row goes out, loads as others load it, and comes back as it was."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from export.published_run import contents, exported, rows
from planted_coders import Planted
from small_run import contents as results_of
from small_run import document, left_alone, refusal, settings

from autointerp.cli import main
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline.directory import writing
from autointerp.pipeline.published import WITH_EXAMPLES, WITHOUT_EXAMPLES

SCORERS = "scorers=[{kind: detection}, {kind: simulation}]"


@pytest.fixture(scope="module")
def run(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return left_alone(folder, [*settings(planted, "alive:2", "alive:1"), SCORERS])


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(run, tmp_path_factory.mktemp("export") / "hub")


@pytest.fixture(scope="module")
def back(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run made of the export."""
    new = tmp_path_factory.mktemp("imported") / "new"
    assert main(["import", str(folder), "--run", str(new), "--json"]) == 0
    return new


def test_every_row_of_the_results_goes_out(run: Path, folder: Path) -> None:
    explanations, scores = results_of(run)
    texts = {row["id"]: row["text"] for row in rows(folder, "explanations")}
    assert texts == {e.id: e.text for e in explanations}
    found = {
        (row["explanation"], row["scorer"], row["control"]): row for row in rows(folder, "scores")
    }
    assert len(found) == len(scores)
    for scored in scores:
        row = found[scored.score.explanation, scored.score.scorer, scored.control]
        headline = scored.score.metrics.get(scored.score.headline)
        assert row["value"] == (headline.value if headline else None)
    assert len(rows(folder, "outcomes")) == sum(len(s.score.outcomes) for s in scores)


def test_it_loads_as_users_load_data_sets(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    explanations, _ = results_of(run)
    mine = [e for e in explanations if e.latent.coder == "a"]
    loaded = datasets.load_dataset(str(folder), "a", split="train")
    assert loaded["text"][:] == [e.text for e in mine]
    outcomes = datasets.load_dataset(str(folder), "a.outcomes", split="train")
    assert outcomes.to_list() == rows(folder, "outcomes", "a")
    tables = {
        name: pandas.read_parquet(folder / "data" / "a" / f"{name}-00000.parquet")
        for name in ("explanations", "scores", "examples", "latents")
    }
    joined = tables["scores"].merge(
        tables["explanations"], left_on="explanation", right_on="id", validate="many_to_one"
    )
    assert len(joined) == len(tables["scores"])
    assert set(tables["examples"]["latent"]) <= set(tables["latents"]["latent"])


def test_examples_are_the_windows_of_the_store(run: Path, folder: Path) -> None:
    store = ExampleStore.open(run / "examples")
    found = [row for row in rows(folder, "examples", "a") if row["kind"] == "top"]
    latent = LatentId.parse(found[0]["latent"])
    mine = [row for row in found if row["latent"] == str(latent)]
    windows = store.windows(latent, "explain", "top")
    assert len(mine) == min(10, len(windows))
    for number, row in enumerate(mine):
        at = windows.documents[number], windows.starts[number]
        assert (row["document"], row["start"]) == at
        ids = store.tokens(int(at[0]))[at[1] : at[1] + store.window]
        assert row["tokens"] == [store.vocabulary[token] for token in ids]
        assert row["activations"] == windows.activations[number].tolist()
        assert row["maximum"] == max(row["activations"])


def test_readers_of_a_few_rows_find_an_index(folder: Path) -> None:
    for path in folder.rglob("*.parquet"):
        with pq.ParquetFile(path) as file:
            group = file.metadata.row_group(0)
            assert group.column(0).has_offset_index
            assert group.column(0).compression == "ZSTD"


def test_what_comes_back_is_the_run(run: Path, folder: Path, back: Path) -> None:
    assert results_of(back) == results_of(run)
    again = exported(back, back / "export" / "hub")
    assert contents(again) == contents(folder)


def test_an_imported_run_is_shown_with_the_published_examples(
    run: Path, back: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latent = str(results_of(run)[0][0].latent)
    mine = document(capsys, "show", str(run), latent)
    theirs = document(capsys, "show", str(back), latent)
    assert theirs["notice"] == WITH_EXAMPLES
    for key in mine.keys() - {"examples", "notice"}:
        assert theirs[key] == mine[key]
    at = [(e["document"], e["start"]) for e in mine["examples"] if e["split"] == "explain"]
    assert set(at) <= {(e["document"], e["start"]) for e in theirs["examples"]}
    assert main(["show", str(back), latent]) == 0
    assert "was published" not in capsys.readouterr().err
    assert document(capsys, "status", str(back))["by_status"]


def test_without_examples_no_window_goes_out(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = exported(run, tmp_path / "bare", examples=False)
    assert not list(bare.rglob("examples-*.parquet"))
    assert ".examples" not in (bare / "README.md").read_text()
    new = tmp_path / "new"
    assert main(["import", str(bare), "--run", str(new)]) == 0
    assert contents(exported(new, tmp_path / "again")) == contents(bare)
    latent = str(results_of(run)[0][0].latent)
    capsys.readouterr()
    shown = document(capsys, "show", str(new), latent)
    assert shown["examples"] == []
    assert shown["notice"] == WITHOUT_EXAMPLES
    assert shown["statistics"]["density"] > 0


def test_the_card_says_what_was_done(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert 'load_dataset("REPOSITORY", "a", split="train")' in card
    status = json.loads((folder / "autointerp.json").read_text())["status"]
    for scorer, figures in status["scores"].items():
        assert f"| {scorer} | " in card
        assert figures["mean"] is None or f"{figures['mean']:.3f}" in card
    assert "license: unknown" in card


def test_an_export_takes_the_place_of_an_earlier_one_only(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = exported(run, tmp_path / "hub")
    before = contents(output)
    found = document(capsys, "export", str(run), "--output", str(output), "--license", "MIT")
    assert found["license"] == "mit"
    assert contents(output).keys() == before.keys()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    refused = refusal(capsys, ["export", str(run), "--output", str(mine)])
    assert "holds other files" in refused
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_export_that_fails_leaves_the_earlier_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Path(shutil.copytree(run, tmp_path / "run"))
    output = exported(mine, tmp_path / "hub")
    before = contents(output)
    with writing(mine):
        assert "a process is running in" in refusal(capsys, ["export", str(mine)])
    with closing(sqlite3.connect(mine / "results.sqlite")) as results, results:
        results.execute("UPDATE scores SET outcomes = x'00' WHERE scorer = 'simulation'")
    with pytest.raises(zlib.error):
        exported(mine, output)
    assert contents(output) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run", "hub"}


def test_what_is_not_whole_is_not_imported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    file = next(broken.rglob("scores-*.parquet"))
    new = ["--run", str(tmp_path / "new")]
    held = file.read_bytes()
    file.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    assert "is not the file that was published" in refusal(capsys, ["import", str(broken), *new])
    file.unlink()
    assert "is missing" in refusal(capsys, ["import", str(broken), *new])
    (broken / "autointerp.json").unlink()
    assert "no autointerp.json" in refusal(capsys, ["import", str(broken), *new])
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    assert "is there already" in refusal(capsys, ["import", str(folder), *new])


def test_what_is_no_licence_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = refusal(capsys, ["export", str(run), "--license", "all mine!"])
    assert "'all mine!' is not a licence's identifier" in refused


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("../secret", "should match pattern"), ("/etc/passwd", "should match pattern")],
)
def test_a_manifest_reaches_no_other_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, complaint: str
) -> None:
    evil = Path(shutil.copytree(folder, tmp_path / "evil"))
    manifest = json.loads((evil / "autointerp.json").read_text())
    manifest["coders"]["a"]["tables"]["latents"]["files"] = [name]
    (evil / "autointerp.json").write_text(json.dumps(manifest))
    assert complaint in refusal(capsys, ["import", str(evil), "--run", str(tmp_path / "new")])
    manifest["coders"]["a"]["tables"]["latents"]["files"] = ["data/a/latents-99999.parquet"]
    (evil / "autointerp.json").write_text(json.dumps(manifest))
    refused = refusal(capsys, ["import", str(evil), "--run", str(tmp_path / "new")])
    assert "data/a/latents-99999.parquet has no hash" in refused
    assert list(tmp_path.iterdir()) == [evil]
