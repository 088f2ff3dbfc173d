"""Runs of a second or two on the planted subject, through the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planted_coders import SAELENS, TOPK, Planted

from autointerp.cli import main
from autointerp.latents import Cost, Explanation
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored

TOKENS = 20_000


def settings(planted: Planted, a: str = "alive:4", b: str = "alive:4") -> list[str]:
    """Overrides for a run over ``a`` latents of one planted coder and ``b`` of another, scored by
    detection."""
    coders = {"a": str(planted.files.coders[SAELENS]), "b": str(planted.files.coders[TOPK])}
    return [
        f"subject.model={planted.files.model}",
        f"subject.coders={json.dumps(coders)}",
        "subject.coders.a.hook=h.0",
        "subject.coders.b.hook=h.1",
        "subject.context_length=97",
        f"corpus.source={planted.corpus}",
        f"corpus.tokens={TOKENS}",
        f"latents={json.dumps({'a': a, 'b': b})}",
        "scorers=[{kind: detection}]",
        "explainer={kind: pattern}",
    ]


def left_alone(folder: Path, overrides: Sequence[str], command: str = "run") -> Path:
    """A run in ``folder`` that nothing befell."""
    run = folder / "run"
    assert main([command, "--json", "--run", str(run), *overrides]) == 0
    return run


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """The one JSON document that a command prints."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The one line with which a command refuses, behind whatever progress was shown."""
    capsys.readouterr()
    assert main(arguments) == 2
    return one_line(*capsys.readouterr())


def one_line(out: str, errors: str) -> str:
    """The line that begins with the program's name: the last, the only one, and no traceback."""
    assert out == ""
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("autointerp: ")]
    assert lines == errors.strip().splitlines()[-1:]
    return lines[0]


def start(arguments: Sequence[str], before: str = "") -> subprocess.Popen[str]:
    """The command in a process of its own; ``before`` is Python that runs first in it."""
    code = f"import sys\n{before}\nfrom autointerp.cli import main\nsys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def heavy_imports(*words: str) -> str:
    """A list, written out, of the libraries slow to import that a command has when it ends."""
    code = (
        "import sys; from autointerp.cli import main; main(sys.argv[1:]);"
        "print(sorted({'numpy', 'torch', 'pydantic', 'rich', 'yaml'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *words]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return printed.splitlines()[-1]


def contents(run: Path) -> tuple[list[Explanation], list[Scored]]:
    """All rows of a run, less what they cost."""
    with Results.read(run / "results.sqlite") as results:
        explanations = [replace(e, cost=Cost()) for e in results.explanations(details=True)]
        scores = [
            replace(s, score=replace(s.score, cost=Cost())) for s in results.scores(outcomes=True)
        ]
    return explanations, scores
