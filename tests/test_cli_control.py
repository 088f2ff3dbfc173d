"""Controls of the whole method: a run on random coders, made from a run and set against it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted_coders import Planted
from small_run import document, left_alone, refusal, settings

from autointerp.config import load_config
from autointerp.examples.store import ExampleStore
from autointerp.pipeline import random_subject
from autointerp.pipeline.building import build_coders, build_subject
from autointerp.subject.activation_functions import TopK


def test_random_coders_have_width_and_k_and_explain_less(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = left_alone(tmp_path, settings(planted))
    capsys.readouterr()
    made = document(capsys, "control", str(run), "--kind", "random_coder")
    control = Path(made["run"])
    assert control == tmp_path / "run-random_coder"
    assert made["failed"] == 0
    own = build_coders(load_config(run / "config.yaml"))
    random = build_coders(load_config(control / "config.yaml"))
    for name, coder in random.items():
        assert coder.W_enc.shape == own[name].W_enc.shape
        assert torch.allclose(coder.W_enc.norm(dim=0), torch.ones(coder.d_sae), atol=1e-5)
        assert isinstance(coder.activation, TopK)
    assert random["b"].activation.k == own["b"].activation.k == 12  # type: ignore[attr-defined]
    found = document(capsys, "compare", str(run), str(control))
    assert not found["paired"]
    assert found["scores"]["detection"]["difference"]["mean"] < 0


def test_a_random_subject_keeps_sizes_and_its_coders_explain_it(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random_subject, "TOKENS", 60_000)
    monkeypatch.setattr(random_subject, "BATCH", 512)
    run = left_alone(tmp_path, settings(planted))
    capsys.readouterr()
    made = document(capsys, "control", str(run), "--kind", "random_subject")
    control = Path(made["run"])
    own, drawn = (build_subject(load_config(p / "config.yaml")).model for p in (run, control))
    pairs = zip(own.named_parameters(), drawn.named_parameters(), strict=True)
    for (name, a), (_, b) in pairs:
        assert a.shape == b.shape
        assert float(a.std(correction=0)) == pytest.approx(
            float(b.std(correction=0)), rel=0.5, abs=1e-3
        ), name
        assert a.std(correction=0) < 1e-6 or not torch.equal(a, b)
    records = ExampleStore.open(control / "examples").coders
    assert all(record.width == len(record.density) for record in records.values())
    assert all((record.variance_explained or 0) > 0.05 for record in records.values())
    found = document(capsys, "compare", str(run), str(control))
    assert not found["paired"]


def test_runs_that_are_not_there_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert "no run at" in refusal(capsys, ["compare", *away])
    assert "no run at" in refusal(capsys, ["control", away[0], "--kind", "random_coder"])
