"""Neuronpedia's import files: of its schema, the same again, with every text unharmed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from export.published_run import contents, exported, make_run
from planted_coders import Planted
from pydantic import ValidationError
from small_run import document, left_alone, refusal, settings
from synthetic_run import NASTY, explained, scored

from autointerp.cli import main
from autointerp.export import batches
from autointerp.export import neuronpedia_rows as rows
from autointerp.latents import Explanation, LatentId

HEADERS: dict[str, type[rows.Row]] = {
    "release": rows.Release,
    "model": rows.Model,
    "sourceset": rows.SourceSet,
    "source": rows.Source,
}
TABLES: dict[str, type[rows.Row]] = {
    "features": rows.Feature,
    "activations": rows.Activation,
    "explanations": rows.Explanation,
    "scores": rows.ScoreRow,
}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def planted_run(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("neuronpedia"), settings(planted))


def table(folder: Path, name: str) -> list[Document]:
    """All rows of one table of a source, each of the schema, and all with the same keys."""
    found = []
    for path in sorted(folder.glob(f"{name}/batch-*.jsonl.gz")):
        lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
        found += [json.loads(line) for line in lines]
    for row in found:
        TABLES[name].model_validate(row)
        assert row.keys() == found[0].keys()
    return found


def header(folder: Path, name: str) -> Document:
    row: Document = json.loads((folder / f"{name}.jsonl").read_text("ascii"))
    HEADERS[name].model_validate(row)
    return row


def test_a_run_goes_out_as_their_schema_says(
    planted_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    asked = ["export", str(planted_run), "--format", "neuronpedia", "--output", str(output)]
    told = document(capsys, *asked, "--model-id", "toy-1l", "--source-set", "planted")
    assert [s["source"] for s in told["sources"].values()] == ["0-planted", "1-planted"]
    assert told["files"] == len(contents(output))
    for coder, source in told["sources"].items():
        folder = output / "toy-1l" / source["source"]
        heads = {name: header(folder, name) for name in HEADERS}
        assert heads["source"]["id"] == source["source"]
        assert heads["sourceset"]["releaseName"] == heads["release"]["name"]
        found = {name: table(folder, name) for name in TABLES}
        assert {name: len(held) for name, held in found.items() if held} == {
            name: count for name, count in source["rows"].items() if count
        }
        keys = {row["index"] for row in found["features"]}
        for name, held in found.items():
            assert {row["index"] for row in held} <= keys, name
            assert {(r["modelId"], r["layer"]) for r in held} <= {("toy-1l", source["source"])}
        for row in found["features"]:
            shown = document(capsys, "show", str(planted_run), f"{coder}/{row['index']}")
            assert row["maxActApprox"] == pytest.approx(shown["statistics"]["max"], rel=1e-4)
            assert row["frac_nonzero"] == shown["statistics"]["density"]
            mine = [a for a in found["activations"] if a["index"] == row["index"]]
            tops = [e["tokens"] for e in shown["examples"] if e["split"] == "explain"]
            assert all(any(a["tokens"] == tokens for a in mine) for tokens in tops)
        ids = [row["id"] for name in ("activations", "explanations") for row in found[name]]
        assert len(set(ids)) == len(ids)
    again = tmp_path / "again"
    asked[-1] = str(again)
    document(capsys, *asked, "--model-id", "toy-1l", "--source-set", "planted")
    assert contents(again) == contents(output)
    document(capsys, *asked, "--no-examples")
    assert not list(again.rglob("activations"))


def test_texts_of_every_kind_come_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LATENTS", 4)
    texts = dict(enumerate(NASTY))
    made = [explained(i, text, "layers.0") for i, text in texts.items()]
    made.append(Explanation(LatentId("layers.0", 99), "", "single_pass", status="dead"))
    own = [scored(made[0], 0.75), scored(made[0], 0.5, control="shuffled")]
    run = make_run(tmp_path / "Odd Run", made, own)
    told = document(capsys, "export", str(run), "--format", "neuronpedia")
    folder = Path(told["output"]) / "demo" / "0-odd-run"
    assert len(list(folder.glob("features/*"))) == 3
    assert [row["index"] for row in table(folder, "features")] == [*map(str, texts), "99"]
    found = {int(r["index"]): r["description"] for r in table(folder, "explanations")}
    assert found == {i: text.replace("\x00", " ") for i, text in texts.items()}
    (score,) = table(folder, "scores")
    assert (score["scoreType"], score["value"]) == ("eleuther_recall", 0.75)
    assert table(folder, "explanations")[0]["notes"].endswith("balanced_accuracy 0.750")
    assert rows.plain("half \ud83d\x00") == "half \ufffd "


def test_a_published_run_gives_the_windows_that_were_published(
    planted_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, copy = exported(planted_run, tmp_path / "hub"), tmp_path / "copy"
    assert main(["import", str(source), "--run", str(copy)]) == 0
    capsys.readouterr()
    made = [
        document(
            capsys,
            "export",
            str(r),
            "--format",
            "neuronpedia",
            "--source-set",
            "x",
            "--output",
            str(tmp_path / str(i)),
        )
        for i, r in enumerate([planted_run, copy])
    ]
    assert [m["sources"] for m in made] == [made[0]["sources"]] * 2
    one, other = (table(next((tmp_path / str(i)).glob("*/0-x")), "activations") for i in (0, 1))
    for row in (*one, *other):
        del row["createdAt"]
    assert one == other


def test_what_neuronpedia_would_refuse_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run", [explained(0, coder="layers.0")])
    asked = ["export", str(run), "--format", "neuronpedia"]
    assert "--model-id" in refusal(capsys, [*asked, "--model-id", "a model"])
    assert "--creator" in refusal(capsys, [*asked, "--creator", "me"])
    assert "--license is for" in refusal(capsys, [*asked, "--license", "mit"])
    assert "--creator is for" in refusal(capsys, ["export", str(run), "--creator", "me"])
    assert not (run / "export").exists()
    nowhere = make_run(tmp_path / "nowhere", [explained(0, coder="embedding")])
    assert "has no layer" in refusal(capsys, ["export", str(nowhere), "--format", "neuronpedia"])
    row = {"modelId": "m", "layer": "0-x", "index": "1", "id": rows.cuid(1), "tokens": ["a", "b"],
           "values": [0.0, 1.0], "maxValue": 1.0, "maxValueTokenIndex": 1, "minValue": 0.0,
           "creatorId": "clkht01d40000jv08hvalcvly", "createdAt": "2026-01-01T00:00:00+00:00",
           "dataSource": "", "binMin": None, "binMax": None, "binContains": None}  # fmt: skip
    rows.Activation.model_validate(row)
    for change in ({"values": [1.0]}, {"maxValueTokenIndex": 0}, {"index": 1}, {"more": 1}):
        with pytest.raises(ValidationError):
            rows.Activation.model_validate({**row, **change})
