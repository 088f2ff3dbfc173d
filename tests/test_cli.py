"""The commands, as a user calls them: documents, exit codes, and one line for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from autointerp.cli import main

SMALL = ("corpus.tokens=60000", "latents.layers.0=alive:3", "latents.layers.1=alive:3")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    assert main(["run", "--json", "--run", str(run), *SMALL]) == 0
    return run


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The one document that a command prints."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


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
    from autointerp.pipeline.results import Results

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
    from autointerp.pipeline.results import Results

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
    assert main(["score", "--explanations", str(file), "--run", run]) == 2
    assert "pattern" in one_line(capsys)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error: one line, behind whatever progress was shown."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


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
    began = time.monotonic()
    assert main(["run", "--run", str(tmp_path / "run"), *overrides]) == 2
    assert expected in one_line(capsys)
    assert time.monotonic() - began < 20


def test_other_settings_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--run", str(finished), "run.seed=5"]) == 2
    message = one_line(capsys)
    assert "run.seed = 0" in message
    assert "says 5" in message


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "--run", str(tmp_path / "file" / "run")]) == 2
    assert "cannot write" in one_line(capsys)


def test_status_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path / "absent")]) == 2
    assert "no run at" in one_line(capsys)


def test_status_imports_nothing_heavy(finished: Path) -> None:
    code = (
        "import sys; from autointerp.cli import main; main(['status', sys.argv[1]]);"
        "print(sorted({'numpy', 'torch', 'pydantic', 'rich', 'yaml'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(finished)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"
