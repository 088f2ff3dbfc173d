"""The delphi protocol beside eai-delphi itself: same activations, same judge, same results.

``tools/install_delphi.sh`` installs it; AUTOINTERP_DELPHI_PYTHON names that environment's python.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from delphi_side import EXPLANATION, label, usable_number
from given_sets import with_test
from numpy.typing import NDArray

from autointerp.judges import Marks, NoVerdict, Verdict
from autointerp.latents import (
    Background,
    Example,
    ExampleBlock,
    Explanation,
    Failure,
    Label,
    LabelledSet,
    LatentId,
    Outcome,
    Score,
)
from autointerp.registry import scorers
from autointerp.scorers import Materials

SIDE = Path(__file__).parents[1] / "delphi_side.py"
ROWS, ROW, WINDOW, PER_PROMPT = 320, 256, 32, 5
WINDOWS = ROWS * ROW // WINDOW
VOCABULARY = [f" w{i}" for i in range(500)]
# Active windows a latent, and how many of a window's tokens are active at most.
LATENTS = {0: (400, 6), 1: (203, 1), 2: (1999, 20), 3: (199, 3)}
KINDS = ("detection", "fuzzing")


@dataclass
class Judge:
    """Answers as the other side's does, and keeps the texts of its prompts."""

    name: str = "scripted"
    prompts: list[list[str]] = field(default_factory=list)

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        assert explanation == EXPLANATION
        assert all(np.isnan(e.activations).all() and not e.left_context for e in examples)
        return self._answers(["".join(e.tokens) for e in examples])

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        return self._answers([marked(e.tokens, m) for e, m in zip(examples, marks, strict=True)])

    def _answers(self, texts: list[str]) -> list[Verdict | NoVerdict]:
        self.prompts = [texts[i : i + PER_PROMPT] for i in range(0, len(texts), PER_PROMPT)]
        return [
            Verdict(bool(label(text))) if usable_number(n) else NoVerdict("no idea")
            for n, prompt in enumerate(self.prompts)
            for text in prompt
        ]


def marked(tokens: Sequence[str], marks: Marks) -> str:
    runs = groupby(zip(marks.tolist(), tokens, strict=True), key=lambda pair: pair[0])
    texts = [(on, "".join(token for _, token in run)) for on, run in runs]
    return "".join(f"<<{text}>>" if on else text for on, text in texts)


@pytest.fixture(scope="module")
def found() -> dict[str, NDArray[Any]]:
    """A corpus of random tokens and the activations of some latents; no two windows tie."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(0, len(VOCABULARY), (ROWS, ROW))
    locations, values = [], []
    for latent, (count, most) in LATENTS.items():
        for window in np.sort(rng.choice(WINDOWS, count, replace=False)).tolist():
            active = np.sort(rng.choice(WINDOW, rng.integers(1, most + 1), replace=False))
            row, first = divmod(window * WINDOW, ROW)
            locations += [(row, first + int(place), latent) for place in active]
            values += rng.gamma(2.0, 1.0, len(active)).astype(np.float32).tolist()
    return {
        "tokens": tokens,
        "locations": np.array(locations),
        "activations": np.array(values, np.float32),
        "vocabulary": np.array(VOCABULARY),
    }


def materials(found: dict[str, NDArray[Any]], latent: int) -> Materials:
    """What a run would give a scorer, had it kept every window of the corpus."""
    dense = np.zeros((ROWS, ROW), np.float32)
    mine = found["locations"][:, 2] == latent
    rows, places, _ = found["locations"][mine].T
    dense[rows, places] = found["activations"][mine]
    windows = dense.reshape(-1, WINDOW)
    token_ids = found["tokens"].reshape(-1, WINDOW).astype(np.int32)
    numbers = np.arange(WINDOWS)
    documents, starts = numbers * WINDOW // ROW, numbers * WINDOW % ROW
    left = np.full((WINDOWS, 32), 7, np.int32)
    active = np.random.default_rng(0).permutation(np.flatnonzero(windows.max(1) > 0))
    name = LatentId("layers.1", latent)
    block = ExampleBlock(
        name,
        documents[active],
        starts[active],
        token_ids[active],
        windows[active],
        left[active],
        VOCABULARY,
    )
    return with_test(
        name,
        LabelledSet(name, "test", [], {}, None, 0),
        background=Background(documents, starts, token_ids, left, VOCABULARY),
        background_maxima=windows.max(1),
        active=lambda: block,
        active_count=len(active),
    )


def scored(found: dict[str, NDArray[Any]], latent: int, kind: str) -> tuple[Score, Judge]:
    judge, registered = Judge(), scorers.get(kind)
    scorer = registered.implementation(registered.options(protocol="delphi"), judge=judge)
    explanation = Explanation(LatentId("layers.1", latent), EXPLANATION, "by hand")
    return asyncio.run(scorer.score(explanation, materials(found, latent))), judge


@pytest.fixture(scope="module")
def theirs(found: dict[str, NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What eai-delphi makes of the same."""
    python = os.environ.get("AUTOINTERP_DELPHI_PYTHON")
    if not python:
        pytest.skip("AUTOINTERP_DELPHI_PYTHON names no python; tools/install_delphi.sh makes one")
    folder = tmp_path_factory.mktemp("delphi")
    np.savez(folder / "found.npz", **found)  # type: ignore[arg-type]
    command = [python, str(SIDE), str(folder / "found.npz"), str(folder / "results.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


# Of the prompts that eai-delphi 0.1.3 asked, for where it is not installed.
PROMPTS = {
    ("detection", 0): "16f1af79a348a086",
    ("detection", 1): "bbd0ce906f74b2ce",
    ("detection", 2): "b2867e733260b172",
    ("fuzzing", 0): "8a3c512bb0684611",
    ("fuzzing", 1): "fdd2950419a5faa2",
    ("fuzzing", 2): "dada241b52a3956a",
}


@pytest.mark.parametrize(("kind", "latent"), PROMPTS)
def test_prompts_are_those_once_seen(
    found: dict[str, NDArray[Any]], kind: str, latent: int
) -> None:
    assert digest(scored(found, latent, kind)[1].prompts) == PROMPTS[kind, latent]


def digest(prompts: list[list[str]]) -> str:
    return hashlib.blake2b(json.dumps(prompts).encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize("latent", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_same_prompts_windows_counts_and_metrics(
    found: dict[str, NDArray[Any]], theirs: Any, latent: int, kind: str
) -> None:
    score, judge = scored(found, latent, kind)
    expected = theirs[str(latent)][kind]
    assert judge.prompts == expected["prompts"]
    assert digest(expected["prompts"]) == PROMPTS[kind, latent]
    assert len(judge.prompts) == 20
    assert [outcome(o) for o in score.outcomes] == [
        (o["activating"], o["prediction"], 9 - distance if o["activating"] else None)
        for o, distance in zip(expected["outcomes"], expected["distances"], strict=True)
    ]
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    assert score.details["confusion"] == {name: expected["confusion"][name] for name in names}
    ours = {name: metric.value for name, metric in score.metrics.items()}
    for name, figure in {
        "balanced_accuracy": "accuracy",
        "precision": "precision",
        "recall": "recall",
        "f1": "f1_score",
        "specificity_random": "true_negative_rate",
    }.items():
        assert ours[name] == pytest.approx(expected["metrics"][figure])


def outcome(o: Outcome) -> tuple[bool, bool | None, int | None]:
    assert isinstance(o, Label | Failure)
    return o.source == "activating", o.label if isinstance(o, Label) else None, o.decile


@pytest.mark.parametrize("kind", KINDS)
def test_latents_below_its_minimum_are_left_out_by_both(
    found: dict[str, NDArray[Any]], theirs: Any, kind: str
) -> None:
    assert theirs["3"] is None
    assert scored(found, 3, kind)[0].status == "too_few_examples"


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_left_out_of_its_metrics_and_counted(
    found: dict[str, NDArray[Any]], kind: str
) -> None:
    score, judge = scored(found, 0, kind)
    assert score.status == "scored"
    assert len(judge.prompts) == 20
    assert score.metrics["failures"].value == 10
    assert sum(score.details["confusion"].values()) == 90
    assert score.metrics["worst_case"].value < score.metrics["balanced_accuracy"].value
    assert score.metrics["balanced_accuracy"].value < score.metrics["best_case"].value
