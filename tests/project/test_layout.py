"""The checkout's own shape: symbolic links, floors over the links, what the wheel holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["scorers", "prompts"])
def test_the_package_reaches_the_top_level_folders_through_links(name: str) -> None:
    link = ROOT / "autointerp" / name
    assert link.is_symlink(), (
        f"autointerp/{name} is a text file, not a link: check out with core.symlinks=true"
    )
    assert link.resolve() == ROOT / name


def test_scorers_import_relatively_so_that_a_second_copy_fails() -> None:
    for path in (ROOT / "scorers").glob("*.py"):
        assert "from autointerp" not in path.read_text(), path
        assert "import autointerp" not in path.read_text(), path


def test_the_floors_check_walks_the_linked_folders() -> None:
    import grimp

    modules = grimp.build_graph("autointerp").modules
    assert "autointerp.scorers.detection" in modules


def test_the_demo_is_small_and_has_a_card() -> None:
    demo = ROOT / "autointerp" / "demo"
    size = sum(path.stat().st_size for path in demo.rglob("*") if path.is_file())
    assert size <= 16 * 2**20
    card = (demo / "README.md").read_text()
    for figure in ("loss", "L0", "variance explained", "dead share", "fingerprint"):
        assert figure in card


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", out, ROOT], check=True, capture_output=True
    )
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_wheel_and_sdist_hold_scorers_prompts_and_demo(wheel: Path) -> None:
    import tarfile

    names = set(zipfile.ZipFile(wheel).namelist())
    assert "autointerp/scorers/detection.py" in names
    assert "autointerp/prompts/README.md" in names
    assert "autointerp/demo/model.safetensors" in names
    assert "autointerp/report/static/templates/report.html.j2" in names
    assert "autointerp/report/templates/style.css" in names
    assert not [n for n in names if "__pycache__" in n or n.startswith("tests")]
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    # The archive holds what the links point to in their place, so that it unpacks anywhere.
    for path in ("scorers/detection.py", "prompts/README.md", "demo/README.md"):
        assert f"autointerp/{path}" in inside


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binary = tmp_path / "venv" / "bin"
    constraints = ROOT / "constraints.txt"
    subprocess.run([binary / "pip", "install", "-q", "-c", constraints, wheel], check=True)
    done = subprocess.run(
        [
            binary / "autointerp",
            "run",
            "--json",
            "run.name=wheel",
            "corpus.tokens=40000",
            "latents={layers.0: 'alive:4', layers.1: 'alive:4'}",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    assert summary["latents"] == 8
    assert (tmp_path / "runs" / "wheel" / "results.sqlite").is_file()
