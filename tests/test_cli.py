"""The commands, as a user calls them: documents, exit codes, and one line for bad input."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from small_run import document, heavy_imports, left_alone, refusal

from autointerp.pipeline.results import Results
from autointerp.sections import DEMO

SMALL = ("corpus.tokens=60000", "latents.layers.0=alive:3", "latents.layers.1=alive:3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("runs"), SMALL)


def test_a_second_run_changes_nothing(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = document(capsys, "status", str(finished))
    again = document(capsys, "run", "--run", str(finished))
    assert again["scores"] == first["scores"]
    assert again["latents"] == 6
    assert again["failed"] == 0
    assert sum(again["by_status"].values()) == 6
    figures = again["scores"]["detection"]
    assert figures["metric"] == "balanced_accuracy"
    assert figures["low"] <= figures["mean"] <= figures["high"]
    assert {"shuffled", "empty", "token_list"} <= set(figures["controls"])


def test_what_the_run_directory_holds(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "status.json", "examples", "results.sqlite", "log.jsonl"} <= names
    record = json.loads((finished / "versions.json").read_text())
    assert set(record) == {"versions", "checkpoints", "corpus"}
    assert set(record["checkpoints"]) == {"model", "layers.0", "layers.1"}


def test_collect_says_what_there_is(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "collect", "--run", str(finished))
    assert found["tokens"] == 60000
    assert set(found["documents"]) == {"explain", "select", "test"}
    point = found["hookpoints"]["layers.0"]
    assert point["alive"] + point["dead"] == point["width"]


def test_show_and_probe(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Results.read(finished / "results.sqlite") as results:
        latent = str(results.explanations()[0].latent)
    shown = document(capsys, "show", str(finished), latent)
    assert shown["latent"] == latent
    example = shown["examples"][0]
    assert len(example["tokens"]) == len(example["activations"]) == 32
    probed = document(capsys, "probe", "--latent", latent, "--text", "".join(example["tokens"]))
    text = probed["texts"][0]
    assert len(text["tokens"]) == len(text["activations"][latent])


def test_explanations_from_elsewhere(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results.read(finished / "results.sqlite") as results:
        explained = results.explanations()
    rows = [json.dumps({"latent": str(e.latent), "explanation": e.text}) for e in explained]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(rows))
    run = str(tmp_path / "imported")
    scored = document(capsys, "score", "--explanations", str(file), "--run", run, *SMALL)
    mine = document(capsys, "status", str(finished))
    assert scored["scores"]["detection"]["mean"] == mine["scores"]["detection"]["mean"]
    file.write_text('{"latent": "layers.0/0", "explanation": "it likes plants"}')
    assert "pattern" in refusal(capsys, ["score", "--explanations", str(file), "--run", run])


def test_the_controls_shown_are_those_of_the_explanation_shown(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run may hold explanations by several explainers, each with controls of its own."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    with Results.read(run / "results.sqlite") as results:
        latents = [e.latent for e in results.explanations() if e.status == "explained"]
    rows = [{"latent": str(i), "explanation": f'"{i.index}"'} for i in latents]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    document(capsys, "score", "--explanations", str(file), "--run", str(run))
    told = {}
    with Results.read(run / "results.sqlite") as results:
        for x in results.scores("detection"):
            if x.score.status == "scored":
                value = x.score.metrics[x.score.headline].value
                told[str(x.score.latent), x.score.explanation, x.control] = value
    for latent in {key[0] for key in told}:
        shown = document(capsys, "show", str(run), latent)
        own = f"{latent}:input:{shown['explainer']}"
        controls = {key[2]: value for key, value in told.items() if key[1] == own and key[2]}
        assert shown["scores"]["detection"]["controls"] == controls
    explainers = {str(key[1]).rpartition(":")[2] for key in told}
    assert explainers == {"imported", "agent"}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"latent": "layers.0/0"}', "has no 'explanation'"),
        ("{", "mine.jsonl:1 is not JSON"),
        ("[]", "mine.jsonl:1 is not an object"),
    ],
)
def test_a_file_of_explanations_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, expected: str
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(f"{row}\n")
    run = ["--run", str(tmp_path / "run")]
    assert expected in refusal(capsys, ["score", "--explanations", str(file), *run])
    file.with_suffix(".csv").write_text(f"latent,explanation\nlayers.0/0,{'x' * 200_000}\n")
    line = refusal(capsys, ["score", "--explanations", str(file.with_suffix(".csv")), *run])
    assert "mine.csv, after line 1: not CSV" in line


def test_texts_to_probe_are_one_json_string_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.jsonl"
    probe = ["probe", "--latent", "layers.0/0", "--texts", str(file)]
    assert "cannot read the texts" in refusal(capsys, probe)
    for text, expected in (("5", ":2 is not a JSON string"), ("for", ":2 is not JSON")):
        file.write_text(f"\n{text}\n")
        assert f"{file}{expected}" in refusal(capsys, probe)
    file.write_bytes(b'"\xff"')
    assert "is not UTF-8 text" in refusal(capsys, probe)
    file.write_text('"for i"\n"in"\n')
    assert len(document(capsys, *probe)["texts"]) == 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["subject.model=/nowhere", "subject.coders={a: /nowhere}", "latents={a: all}"], "nowhere"),
        (["subject.coders.layers.0=/nowhere"], "/nowhere"),
        (["subject.coders.layers.0=demo", "subject.coders.layers.0.hook=layers.77"], "layers.77"),
        (["corpus.source=DIR/rows.jsonl", "corpus.column=body"], "body"),
        (["corpus.source=DIR/empty.jsonl"], "empty.jsonl"),
        (["corpus.source=DIR/absent.jsonl"], "absent.jsonl"),
        (["latents.layers.0=9999999"], "out of range"),
        (["corpus.tokns=5"], "did you mean 'tokens'"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    expected: str,
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "empty.jsonl").write_text("")
    overrides = [text.replace("DIR", str(tmp_path)) for text in overrides]
    began = time.process_time()  # of work, however busy the machine is
    assert expected in refusal(capsys, ["run", "--run", str(tmp_path / "run"), *overrides])
    assert time.process_time() - began < 20


def test_other_settings_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, ["run", "--run", str(finished), "run.seed=5"])
    assert "run.seed = 0" in message
    assert "says 5" in message


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refusal(capsys, ["run", "--run", str(tmp_path / "file" / "run")])


def test_status_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run at" in refusal(capsys, ["status", str(tmp_path / "absent")])


def test_status_imports_nothing_heavy(finished: Path) -> None:
    assert heavy_imports("status", str(finished)) == "[]"


@pytest.mark.parametrize(
    "asked",
    [
        ["score", "--explanations", "FILE", "corpus.tokens=60000"],
        ["score", "latents.layers.0=9999999"],
        ["run", "latents.layers.0=9999999", "engine.concurrency=2"],
        ["run", "subject.coders.other=CODER"],
    ],
)
def test_a_refused_command_leaves_what_the_run_says_as_it_was(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    names = ("config.yaml", "status.json", "versions.json")
    before = {name: (run / name).read_text() for name in names}
    file = tmp_path / "mine.jsonl"
    file.write_text("{")
    places = {"FILE": file, "CODER": DEMO / "coders" / "layers.0"}
    words = [re.sub("FILE|CODER", lambda name: str(places[name[0]]), word) for word in asked]
    with Results.read(run / "results.sqlite") as results:
        settings = results.settings()
    refusal(capsys, [*words, "--run", str(run)])
    assert {name: (run / name).read_text() for name in names} == before
    with Results.read(run / "results.sqlite") as results:
        assert results.settings() == settings
