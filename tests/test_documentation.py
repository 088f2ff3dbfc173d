"""What docs/ shows is true: commands run, configurations are read, examples of code work."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import left_alone

from autointerp.cli.parser import parse
from autointerp.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SMALL = ["corpus.tokens=60000", "latents.layers.0=alive:6", "latents.layers.1=alive:6"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    return [body for name, body in BLOCK.findall(text) if name == language]


def commands(page: str) -> list[list[str]]:
    """The words of every command of a page, without the program's name."""
    lines = [line for body in blocks(page, "bash") for line in body.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line]


def cases(language: str) -> list[Any]:
    return [
        pytest.param(body, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, body in enumerate(blocks(page.stem, language))
    ]


@pytest.mark.parametrize("page", [page.stem for page in PAGES])
def test_every_command_parses(page: str) -> None:
    for words in commands(page):
        assert callable(parse(words).command)


@pytest.mark.parametrize("text", cases("yaml"))
def test_every_configuration_is_read(text: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(text)
    config = load_config(file)
    for name in config.model_dump(exclude_unset=True).get("llms", {}):
        assert name in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists() or (page.parent / f"{target}.md").exists()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's small run in ``runs/small``."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "runs").mkdir()
    left_alone(folder / "runs", SMALL).rename(folder / "runs" / "small")
    return folder


def program(folder: Path, *words: str) -> str:
    """What a command prints; it must succeed."""
    command = [sys.executable, "-m", "autointerp", *words]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "a key that is not used"}
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_latent_of_the_tutorial_is_explained(runs: Path) -> None:
    (shown,) = (words[2] for words in commands("tutorial") if words[0] == "show")
    with sqlite3.connect(runs / "runs" / "small" / "results.sqlite") as results:
        query = "SELECT coder || '/' || latent FROM explanations WHERE status = 'explained'"
        assert (shown,) in results.execute(query).fetchall()


def test_the_query_of_results_works(runs: Path) -> None:
    (query,) = blocks("formats", "sql")
    with sqlite3.connect(runs / "runs" / "small" / "results.sqlite") as results:
        rows = results.execute(query).fetchall()
    assert {scorer for scorer, *_ in rows} == {"detection", "fuzzing"}
    assert all(0 <= mean <= 1 and n > 0 for *_, n, mean in rows)


def test_plug_ins_are_found_and_work(runs: Path, tmp_path: Path) -> None:
    """The examples of a scorer and of an explainer run; that of a layout is read."""
    scorer, explainer, layout = blocks("extending", "python")
    coder = tmp_path / "coder"
    script = f"""
{scorer}
{explainer}
{layout}
from pathlib import Path
from autointerp.cli import main
from autointerp.subject.checkpoints import load_coder
folder = Path({str(coder)!r})
folder.mkdir()
W = torch.eye(4, 6)
torch.save({{"W_enc": W, "W_dec": W.T.contiguous(), "b_dec": torch.zeros(4), "k": 2}},
           folder / "plain_topk.pt")
assert load_coder(folder).d_sae == 6
kinds = ["scorers=[{{kind: length, most: 30}}]", "explainer={{kind: peak}}"]
raise SystemExit(main(["run", "--json", "--run", "runs/plugged", *kinds, *{SMALL!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=runs, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["scores"]["length"]
    assert found["mean"] == 1
    assert found["n"] == 12


@pytest.mark.slow
def test_the_tutorial_works_from_its_beginning_to_its_end(runs: Path) -> None:
    (runs / "words.yaml").write_text(blocks("tutorial", "yaml")[0])
    for words in commands("tutorial"):
        # The run of the fixture stands for the first; others wait, need a model of the hub, or ask
        # a language model.
        if words[0] in ("view", "similarity") or words[:2] in (["run"], ["run", "--config"]):
            continue
        program(runs, *words)
    assert (runs / "runs" / "small" / "report.html").exists()
    assert (runs / "runs" / "copy").is_dir()


@pytest.mark.slow
def test_a_run_in_shards_and_its_estimate_work(runs: Path) -> None:
    (runs / "mine.yaml").write_text(
        "corpus: {tokens: 140000}\nlatents: {layers.0: 'alive:4', layers.1: 'alive:4'}\n"
    )
    for words in commands("overnight"):
        known = {"mine": "small", "runs/mine": "runs/small"}  # a run that there is
        if "engine.kind=ray" not in words:  # tests/pipeline/test_ray.py
            program(runs, *(known.get(word, word) for word in words))


@pytest.mark.slow
def test_the_export_loads_as_shown(runs: Path) -> None:
    pytest.importorskip("datasets")
    program(runs, "export", "small")
    (code,) = blocks("formats", "python")
    check = "assert len(explanations) == 6 and len(outcomes) > 100"
    home = {**os.environ, "HF_HOME": str(runs / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], cwd=runs, env=home, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
