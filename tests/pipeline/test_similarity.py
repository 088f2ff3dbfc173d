"""Nearest explanations of two runs, against all cosines at once; and what a user is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_model import CountedWords, minilm
from small_run import refusal
from synthetic_run import NASTY, explained, write_run

from autointerp.cli import main
from autointerp.latents import AutointerpError
from autointerp.pipeline import nearest as blocks
from autointerp.pipeline import similarity
from autointerp.pipeline.similarity import compare_meanings

WORDS = ["months", "of", "the", "year", "closing", "brackets", "in", "code", "French", "names"]


def texts(count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 4)) for _ in range(count)]


def silent(stage: str, done: int, total: int) -> None: ...


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    a = [explained(i, t, "x") for i, t in enumerate(texts(23, 0))]
    a += [explained(i * 3, t, "y") for i, t in enumerate([*texts(5, 1), *NASTY])]
    a += [explained(90, "", "y", status="dead"), explained(91, "a cause", "y", kind="output")]
    b = [explained(i, t, "x") for i, t in enumerate(texts(17, 2))]
    return write_run(tmp_path / "a", a), write_run(tmp_path / "b", b)


@pytest.mark.parametrize("itself", [False, True])
def test_blocks_find_what_all_pairs_at_once_do(
    runs: tuple[Path, Path], itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((blocks, "BLOCK"), (similarity, "LOT"), (similarity, "ROWS")):
        monkeypatch.setattr(module, name, 4)
    a, b = runs[0], runs[0] if itself else runs[1]
    found = compare_meanings(a, b, CountedWords, silent, top=3)
    held = {"x": texts(23, 0), "y": [*texts(5, 1), *NASTY]}
    others = held if itself else {"x": texts(17, 2)}
    rows = pq.read_table(found["file"]).to_pylist()
    assert len(rows) == (23 + 14) * len(others)
    for cell in found["matrix"]:
        one, other = CountedWords()(held[cell["a"]]), CountedWords()(others[cell["b"]])
        cosines, all_pairs = one @ other.T, np.ones((len(one), len(other)), bool)
        if itself and cell["a"] == cell["b"]:
            np.fill_diagonal(all_pairs, False)
        best = np.where(all_pairs, cosines, -np.inf).max(1)
        assert cell["best"][0] == pytest.approx(best.mean(), abs=1e-6)
        assert cell["best"][1] < cell["best"][0] < cell["best"][2]
        assert cell["any"] == pytest.approx(cosines[all_pairs].mean(), abs=1e-6)
        assert cell["shuffled"][0] < cell["best"][0]
        mine = [r for r in rows if r["latent_a"].startswith(f"{cell['a']}/")]
        mine = [r for r in mine if r["latent_b"].startswith(f"{cell['b']}/")]
        np.testing.assert_allclose([r["cosine"] for r in mine], best, atol=1e-6)
        assert [r["text_a"] for r in mine] == held[cell["a"]]
        assert all(r["text_b"] in others[cell["b"]] for r in mine)
        assert cell["mutual"] == pytest.approx(np.mean([r["mutual"] for r in mine]))
    assert all(r["latent_a"] != r["latent_b"] for r in rows) or not itself
    cosines_shown = [pair["cosine"] for pair in found["pairs"]]
    assert cosines_shown == sorted(cosines_shown, reverse=True)
    assert cosines_shown[0] == pytest.approx(max(r["cosine"] for r in rows if r["mutual"]))
    assert {p.name for p in a.iterdir()} == {"results.sqlite", Path(found["file"]).name}


def test_a_run_without_explanations_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", [explained(0, "", status="failed")])
    with pytest.raises(AutointerpError, match="no explanations to compare"):
        compare_meanings(runs[0], empty, lambda: pytest.fail("loaded"), silent)
    assert not list(runs[0].glob("*similarity*"))


def test_the_command_with_a_real_model(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = minilm()
    a, b = map(str, runs)
    for run in runs:
        (run / "config.yaml").write_text("{}")
    assert main(["similarity", a, b, "--model", model, "--top", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["pairs"]) == 2
    assert main(["similarity", a, b, "--model", model, "--top", "2"]) == 0
    shown = capsys.readouterr().out
    assert found["pairs"][0]["a"] in shown
    assert f"{found['matrix'][0]['best'][0]:.3f}" in shown
    assert "cannot load the embedder" in refusal(capsys, ["similarity", a, b, "--model", a])
