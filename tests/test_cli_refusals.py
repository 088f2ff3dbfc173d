"""Bad input: one line, exit 2, and nothing long is begun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from planted_coders import SAELENS, Planted
from small_run import refusal, settings

from autointerp.cli import main


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("subject.model=DIR/absent", "absent"),
        ("subject.model=DIR", "DIR"),
        ("subject.coders.a=DIR/absent", "absent"),
        ("subject.coders.a=DIR", "DIR"),
        ("subject.coders.a.hook=h.7", "subject.coders.a: "),
        ("subject.coders.a.hook=h.0.mlp.c_fc", "h.0.mlp.c_fc"),
        ("corpus.source=DIR/rows.jsonl", "line 1 has no column 'text'; it has 'body'"),
        ("corpus.source=DIR/folder", "b.jsonl line 1 has no column 'text'"),
        ("corpus.source=DIR/later.jsonl", "later.jsonl line 3 has no column 'text'"),
        ("corpus.source=DIR/nothing.jsonl", "holds no text"),
        ("corpus.source=DIR/no_files", "holds no"),
        ("corpus.source=DIR/broken.parquet", "is not a parquet file"),
        ("corpus.source=DIR/rows.csv", "is not one of"),
        ("latents={a: '5,9999', b: 'alive:4'}", "latents.a: 9999 is out of range"),
        ("latents={a: '-1'}", "latents.a"),
        ("latents={c: all}", "latents.c: no such coder"),
        ("scorer=3", "did you mean 'scorers'"),
        ("corpus.colunm=text", "did you mean 'column'"),
        ("scorers.0.kind=detectoin", "did you mean 'detection'"),
        ("explainer.kind=patern", "did you mean 'pattern'"),
        ("explainer.word_prize=1", "did you mean 'word_price'"),
        ("subject.coders.a.hok=h.0", "subject.coders.a.hok: "),
        ("corpus.tokens=none", "corpus.tokens"),
        ("nonsense", "write key.sub=value"),
    ],
)
def test_each_mistake_is_one_line(
    tmp_path: Path,
    planted: Planted,
    capsys: pytest.CaptureFixture[str],
    changed: str,
    expected: str,
) -> None:
    good = {"text": "the cat sat on the mat . " * 20}
    (tmp_path / "rows.jsonl").write_text('{"body": "a"}\n')
    (tmp_path / "later.jsonl").write_text(f'{json.dumps(good)}\n\n{{"body": "a"}}\n')
    (tmp_path / "nothing.jsonl").write_text('{"text": " "}\n')
    (tmp_path / "rows.csv").write_text("text\na\n")
    (tmp_path / "broken.parquet").write_text("PAR1, or not")
    (tmp_path / "no_files").mkdir()
    (tmp_path / "folder" / "c.txt").mkdir(parents=True)
    (tmp_path / "folder" / "a.jsonl").write_text(json.dumps(good))
    (tmp_path / "folder" / "b.jsonl").write_text('{"body": "a"}\n')
    run, elsewhere = tmp_path / "run", changed.replace("DIR", str(tmp_path))
    line = refusal(capsys, ["run", "--run", str(run), *settings(planted), elsewhere])
    assert expected.replace("DIR", str(tmp_path)) in line
    assert not (run / "examples" / "store.json").exists()


@pytest.mark.parametrize("changed", ["corpus.source=DIR/absent.jsonl", "latents={a: '9999'}"])
@pytest.mark.parametrize("shard", [[], ["--shard", "1/2"]])
def test_a_refused_run_leaves_no_folder(
    tmp_path: Path,
    planted: Planted,
    capsys: pytest.CaptureFixture[str],
    changed: str,
    shard: list[str],
) -> None:
    arguments = ["collect", *shard, *settings(planted), changed.replace("DIR", str(tmp_path))]
    refusal(capsys, [*arguments, "--run", str(tmp_path / "runs" / "new")])
    assert not (tmp_path / "runs").exists()
    there = tmp_path / "there"
    there.mkdir()
    refusal(capsys, [*arguments, "--run", str(there / "new")])
    refusal(capsys, [*arguments, "--run", str(there)])
    assert there.is_dir()
    assert not (there / "new").exists()


@pytest.mark.parametrize("command", ["run", "collect", "explain", "score"])
def test_every_command_refuses_alike(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    arguments = [command, "--run", str(tmp_path / "run"), *settings(planted)]
    assert "did you mean" in refusal(capsys, [*arguments, "corpsu.tokens=5"])
    assert "no configuration file" in refusal(capsys, [command, "--config", f"{tmp_path}/no.yaml"])


def test_settings_of_another_run_are_named_with_both_values(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--json", "--run", str(tmp_path / "run"), *settings(planted, "0", "0")]
    assert main(arguments) == 0
    for changed, values in {
        "explainer.word_price=0.5": ("explainer.pattern.word_price = 0.0015", "says 0.5"),
        "corpus.tokens=10000": ("corpus.tokens = 20000", "says 10000"),
        f"subject.coders.b={planted.files.coders[SAELENS]}": ("subject.coders.b", "says"),
    }.items():
        line = refusal(capsys, [*arguments, changed])
        assert all(value in line for value in values)
        assert "run.name" in line


@pytest.mark.parametrize("directory", ["FILE/runs", "/proc/runs", "/sys/runs", "/dev/null/runs"])
def test_a_directory_that_nobody_can_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], directory: str
) -> None:
    (tmp_path / "file").write_text("")
    where = directory.replace("FILE", str(tmp_path / "file"))
    if not Path(where).parent.exists():
        pytest.skip(f"this system has no {Path(where).parent}")
    line = refusal(capsys, ["run", f"run.directory={where}", "run.name=mine"])
    assert f"cannot write to {where}/mine" in line
    assert "set run.directory" in line


@pytest.mark.usefixtures("without_root_powers")
@pytest.mark.parametrize("what", [".", "run", "run/examples", "run/results.sqlite"])
def test_a_directory_that_one_may_not_write(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    arguments = ["run", "--run", str(tmp_path / "run"), *settings(planted, "0", "0")]
    if what != ".":
        assert main(["run", "--json", *arguments[1:]]) == 0
        (tmp_path / "run" / "examples" / "store.json").unlink()
    mode = (tmp_path / what).stat().st_mode
    (tmp_path / what).chmod(0o500 if (tmp_path / what).is_dir() else 0o400)
    try:
        line = refusal(capsys, arguments)
    finally:
        (tmp_path / what).chmod(mode)
    assert "cannot write" in line


@pytest.mark.usefixtures("without_root_powers")
def test_a_corpus_that_one_may_not_read(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tmp_path / "secret.jsonl"
    corpus.write_text('{"text": "a"}')
    corpus.chmod(0)
    arguments = ["run", "--run", str(tmp_path / "run"), *settings(planted)]
    assert "may not be read" in refusal(capsys, [*arguments, f"corpus.source={corpus}"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own limit on names")
def test_a_name_that_no_file_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot write to" in refusal(capsys, ["run", f"run.name={'x' * 300}"])


def test_overrides_may_stand_on_both_sides_of_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["--run", str(tmp_path / "run")]
    line = refusal(capsys, ["run", "run.seed=1", *run, "corpus.source=DIR/absent.txt"])
    assert "DIR/absent.txt does not exist" in line
    for words in (["run", "--bogus"], ["status", "one", "two"], ["nonsense"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    assert "unrecognized arguments: two" in capsys.readouterr().err


def test_a_judge_that_cannot_read_what_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = ["explainer.kind=single_pass", "llms.explainer.model=m"]
    line = refusal(capsys, ["run", "--run", str(tmp_path / "run"), *asking])
    assert "scorers.0.judge: pattern reads patterns alone, and single_pass writes" in line
    assert line.endswith("use scorers.0.judge=llm")
    assert not (tmp_path / "run").exists()
