"""What README.md shows is true: its commands parse and run, its configurations are read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from small_run import document, left_alone, refusal
from synthetic_run import explained, write_run

from autointerp.cli import main
from autointerp.cli.parser import parse
from autointerp.config import load_config
from autointerp.pipeline.results import Results
from autointerp.sections import DEMO

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    re.split(r"\s{2,}", line)[0] for line in README.splitlines() if line.startswith("autointerp ")
]
OWN, ASKING = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
LONG = {"run", "collect", "explain", "score", "control", "estimate"}
ELSEWHERE = {"view", "merge", "import", "push", "similarity"}  # have tests of their own


def words(command: str, **placeholders: str) -> list[str]:
    """The arguments of a command, with what stands for RUN, LATENT and FILE."""
    return [placeholders.get(word, word) for word in shlex.split(command)[1:]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = ["corpus.tokens=20000", "latents.layers.0=alive:2", "latents.layers.1=alive:2"]
    return left_alone(tmp_path_factory.mktemp("readme"), chosen)


def test_every_command_is_shown() -> None:
    shown = {words(command)[0] for command in COMMANDS}
    others = {"status", "show", "compare", "prompts", "probe", "report", "export"}
    assert shown == {*LONG, *ELSEWHERE, *others}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_parse(command: str) -> None:
    assert callable(parse(words(command)).command)


@pytest.mark.parametrize("command", [c for c in COMMANDS if words(c)[0] not in LONG | ELSEWHERE])
def test_the_cheap_commands_run(
    command: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results.read(tiny / "results.sqlite") as results:
        latent = str(results.explanations()[0].latent)
    assert main(words(command, RUN=str(tiny), LATENT=latent)) == 0
    assert capsys.readouterr().out


def test_the_probed_latent_fires(capsys: pytest.CaptureFixture[str]) -> None:
    (command,) = (c for c in COMMANDS if words(c)[0] == "probe")
    (text,) = document(capsys, *words(command))["texts"]
    ((_, activations),) = text["activations"].items()
    assert max(activations) > 1


def test_explanations_of_a_file_are_scored(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = (c for c in COMMANDS if "FILE" in c)
    with Results.read(tiny / "results.sqlite") as results:
        rows = [{"latent": str(e.latent), "explanation": '"x"'} for e in results.explanations()]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    mine = ["--run", str(tmp_path / "run"), "corpus.tokens=20000"]
    found = document(capsys, *words(command, FILE=str(file)), *mine)
    assert found["latents"] == len(rows)


def test_run_tells_what_to_look_at_next(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--run", str(tiny)]) == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    command = shlex.split(shown.rpartition("look at one latent: autointerp ")[2])
    assert command[0] == "show"
    assert main(command) == 0


def test_a_latent_that_is_not_in_the_run_is_told_with_one_that_is(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results.read(tiny / "results.sqlite") as results:
        known = {str(e.latent) for e in results.explanations()}
    absent = next(f"layers.1/{i}" for i in range(9) if f"layers.1/{i}" not in known)
    line = refusal(capsys, ["show", str(tiny), absent])
    assert line.rpartition("one that is: ")[2] in known


def test_the_latent_that_is_told_is_an_explained_one_of_the_same_coder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = [explained(0, "", status="no_explanation"), explained(1)]
    latents += [explained(2, "", coder="d", status="dead"), explained(3, coder="d")]
    run = str(write_run(tmp_path / "run", latents))
    assert refusal(capsys, ["show", run, "d/9"]).endswith("one that is: d/3")
    assert refusal(capsys, ["show", run, "c/9"]).endswith("one that is: c/1")


def test_a_folder_that_is_no_run_is_told_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["status"], ["show", "a/0"], ["report"]):
        line = refusal(capsys, [words[0], str(tmp_path), *words[1:]])
        assert f"no run at {tmp_path}" in line


def test_nothing_is_left_beside_the_results(tiny: Path) -> None:
    assert not list(tiny.glob("*.sqlite-*"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


MODEL = f"subject.model={DEMO}"
CODER = f"subject.coders.layers.12={DEMO / 'coders' / 'layers.1'}"
HOOK = "subject.coders.layers.12.hook"


def test_the_configuration_of_an_own_subject_is_read(own: Path) -> None:
    config = load_config(own)
    assert config.model_dump(exclude_unset=True).keys() == yaml.safe_load(OWN).keys()
    assert set(config.latents) == set(config.subject.coders) == {"layers.12"}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["corpus.source=FILE"], "subject.coders.layers.12: "),
        (["corpus.source=FILE", CODER], "cannot load the model 'google/gemma-2-2b'"),
        (["corpus.source=FILE", MODEL, CODER, f"{HOOK}=layers.12"], "no module 'layers.12'"),
        ([MODEL, CODER], "corpus texts.jsonl does not exist"),
    ],
)
def test_what_an_own_subject_lacks_is_told_in_one_line(
    own: Path, capsys: pytest.CaptureFixture[str], there: list[str], expected: str
) -> None:
    file = own.with_name("texts.jsonl")
    file.write_text('{"text": "for i in range(3): pass"}\n')
    run = ["run", "--config", str(own), "--run", str(own.with_name("run"))]
    there = [word.replace("FILE", str(file)) for word in there]
    assert expected in refusal(capsys, [*run, "latents.layers.12=0", *there])


def test_the_key_of_a_language_model_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = tmp_path / "asking.yaml"
    path.write_text(ASKING)
    line = refusal(capsys, ["run", "--config", str(path), "--run", str(tmp_path / "run")])
    assert "llms.explainer: the environment variable OPENAI_API_KEY is not set" in line
    assert not (tmp_path / "run").exists()
