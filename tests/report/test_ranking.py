"""Which latents the terminal calls the best and the worst."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_run import EXPLAINER, explained, scored, write_run

from autointerp.pipeline.results import Results
from autointerp.report.ranking import print_latents, ranking


@pytest.mark.parametrize("latents", [0, 1, 7, 15, 40])
def test_the_best_and_the_worst_are_those_of_the_first_scorer(latents: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(10, 20, latents) / 20  # with equal ones
    explanations = [explained(i, f"text {i}") for i in range(latents)]
    scores = [scored(e, float(v)) for e, v in zip(explanations, values, strict=True)]
    scores += [scored(e, 0.9, "fuzzing") for e in explanations[::2]]
    scores += [scored(e, 1.0, control="shuffled") for e in explanations]
    other = explained(99, "", status="no_explanation")
    run = write_run(tmp_path / "run", [*explanations, other], [*scores, scored(other, 1.0)])
    with Results.read(run / "results.sqlite") as results:
        found = ranking(results, EXPLAINER)
    order = sorted(range(latents), key=lambda i: (-values[i], i))
    assert [r.latent.index for r in found.best] == order[:10]
    assert [r.latent.index for r in found.worst] == order[10:][-10:]
    assert all(r.headlines["detection"] == values[r.latent.index] for r in found.best)
    assert all(("fuzzing" in r.headlines) == (r.latent.index % 2 == 0) for r in found.best)
    assert list(found.scorers) == ["detection", "fuzzing"][: min(latents, 1) * 2]


def test_the_tables_say_by_what_they_rank_and_what_is_left_out(tmp_path: Path) -> None:
    one, names = explained(0), ("detection", "fuzzing", "generation", "intruder")
    run = write_run(tmp_path / "run", [one], [scored(one, 0.9, name) for name in names])
    console = Console(width=120, file=StringIO())
    with Results.read(run / "results.sqlite") as results:
        print_latents(console, results, EXPLAINER, run)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "best explained, by detection (3 of 4 scorers)" in text


def test_signs_that_move_a_terminals_cursor_are_shown(tmp_path: Path) -> None:
    one = explained(0, "a \x1b[2J\x07 b")
    run = write_run(tmp_path / "run", [one], [scored(one, 0.9)])
    console = Console(width=120, file=StringIO())
    with Results.read(run / "results.sqlite") as results:
        print_latents(console, results, EXPLAINER, run)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a ␛[2J␇ b" in text
    assert f"autointerp show {run} c/0" in text  # in one line, however long the path is
