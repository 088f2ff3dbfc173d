"""A delphi cache, explanations and scores of exactly its format become a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_run import document, refusal
from synthetic_run import NASTY

from autointerp.examples.store import ExampleStore
from autointerp.export import delphi_cache
from autointerp.latents import LatentId
from autointerp.sections import DEMO

ROWS, LENGTH, WIDTH, SPLITS = 40, 70, 12, ((0, 4), (5, 11))
HOOKS = ("layers.0", "layers.1")
UNREADABLE = "Explanation could not be parsed."


@dataclass
class Judged:
    """An item of a scorer's file, with all its fields."""

    activating: bool
    prediction: bool | None
    distance: float
    str_tokens: tuple[str, ...] = ("a", "b")
    activations: tuple[float, ...] = (0.0, 1.0)
    probability: float | None = None
    correct: bool | None = None


ITEMS = [Judged(True, True, 0) for _ in range(8)] + [Judged(True, False, 9) for _ in range(2)]
ITEMS += [Judged(False, False, -1.0) for _ in range(9)] + [Judged(False, None, -1.0)]


def write_cache(folder: Path, tokens: bool = True) -> Path:
    """A cache of two hook points, in two splits each, and what was made of it."""
    random = np.random.default_rng(0)
    read = random.integers(5, 500, (ROWS, LENGTH))
    for number, hook in enumerate(HOOKS):
        place = folder / "latents" / hook
        place.mkdir(parents=True)
        fired = np.random.default_rng(number).random((ROWS, LENGTH, WIDTH))
        fired = np.where(fired > 0.9, fired, 0) * (1 + np.arange(WIDTH))
        for low, high in SPLITS:
            found = np.ascontiguousarray(np.argwhere(fired[..., low : high + 1]))
            arrays: dict[str, np.ndarray] = {
                "locations": found.astype((np.uint16, np.uint32)[number]),
                "activations": fired[..., low : high + 1][tuple(found.T)].astype(np.float16),
            }
            arrays |= {"tokens": read} if tokens else {}
            save_file(arrays, place / f"{low}_{high}.safetensors")
        asked = {"dataset_repo": "some/text", "dataset_column": "raw", "n_tokens": 9999}
        (place / "config.json").write_text(json.dumps({**asked, "model_name": str(DEMO)}))
    told: list[Any] = [*NASTY[:3], UNREADABLE]
    for index, text in enumerate(told):
        write(folder / "explanations", index, text)
    for scorer in ("detection", "fuzz", "simulation"):
        write(folder / "scores" / scorer, 0, [asdict(item) for item in ITEMS])
    asked = {"constructor_cfg": {"non_activating_source": "neighbours"}, "sparse_model": "me/saes"}
    (folder / "run_config.json").write_text(json.dumps(asked))
    return folder


def write(folder: Path, index: int, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"layers.1_latent{index}.txt").write_text(json.dumps(content), encoding="utf-8")


def test_a_cache_becomes_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delphi_cache, "AT_ONCE", 100)
    cache, run = write_cache(tmp_path / "cache"), tmp_path / "run"
    told = document(capsys, "import", str(cache), "--format", "delphi", "--run", str(run))
    assert told == {
        "run": str(run),
        "latents": 4,
        "examples": True,
        "scorers": ["detection", "fuzzing"],
        "left_out": ["simulation"],
    }
    shown = document(capsys, "show", str(run), "layers.1/0")
    assert shown["explanation"] == NASTY[0]
    detection = shown["scores"]["detection"]
    assert detection["value"] == pytest.approx((8 / 10 + 9 / 10) / 2)  # no reply is no right one
    assert shown["examples"]
    failed = document(capsys, "show", str(run), "layers.1/3")
    assert (failed["status"], failed["reason"]) == ("failed", f"delphi: {UNREADABLE}")
    status = document(capsys, "status", str(run))
    assert (status["latents"], status["failed"]) == (4, 1)
    for command in (["export", str(run)], ["report", str(run)], ["compare", str(run), str(run)]):
        document(capsys, *command)


def test_the_store_has_what_the_cache_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delphi_cache, "AT_ONCE", 1000)
    cache, run = write_cache(tmp_path / "cache"), tmp_path / "run"
    document(capsys, "import", str(cache), "--format", "delphi", "--run", str(run))
    store = ExampleStore.open(run / "examples")
    assert store.token_count == ROWS * LENGTH
    for hook in HOOKS:
        counts = store.statistics(hook)
        for low, high in SPLITS:
            held = load_file(cache / "latents" / hook / f"{low}_{high}.safetensors")
            locations, values = held["locations"].astype(int), held["activations"]
            for index in range(low, high + 1):
                mine = locations[:, 2] == index - low
                assert counts.firing_count[index] == mine.sum()
                assert counts.maximum[index] == values[mine].max()
                windows = store.windows(LatentId(hook, index), "explain", "top")
                texts = store.window_tokens(windows.documents, windows.starts)
                for document_, start, activations, text in zip(
                    windows.documents, windows.starts, windows.activations, texts, strict=True
                ):
                    inside = mine & (locations[:, 0] == document_)
                    row = np.zeros(LENGTH, np.float32)
                    row[locations[inside, 1]] = values[inside]
                    np.testing.assert_array_equal(activations, row[start : start + 32])
                    expected = held["tokens"][document_, start : start + 32]
                    np.testing.assert_array_equal(text, expected)


def test_a_cache_without_tokens_gives_results_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, run = write_cache(tmp_path / "cache", tokens=False), tmp_path / "run"
    folder = cache / "latents" / "layers.1"  # one hook point
    scores = ["--scores", str(cache / "scores" / "fuzz")]
    texts = ["--explanations", str(cache / "explanations")]
    asked = ["import", str(folder), "--format", "delphi", "--run", str(run), *texts, *scores]
    told = document(capsys, *asked)
    assert (told["examples"], told["scorers"]) == (False, ["fuzzing"])
    assert document(capsys, "show", str(run), "layers.1/0")["notice"]


def test_what_is_no_whole_cache_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, run = write_cache(tmp_path / "cache"), tmp_path / "run"
    asked = ["import", str(cache), "--format", "delphi", "--run", str(run)]
    split = cache / "latents" / "layers.1" / "0_4.safetensors"
    whole = split.read_bytes()
    arrays = load_file(split)
    changes: list[tuple[str, dict[str, np.ndarray]]] = [
        ("not in order", {**arrays, "locations": arrays["locations"][::-1].copy()}),
        ("another model", {**arrays, "tokens": arrays["tokens"] + 10**6}),
        ("different texts", {**arrays, "tokens": arrays["tokens"] + 1}),
        ("has no activations", {"locations": arrays["locations"]}),
    ]
    for said, changed in changes:
        save_file(changed, split)
        if said == "another model":
            save_file(changed, cache / "latents" / "layers.0" / "0_4.safetensors")
        assert said in refusal(capsys, asked)
    split.write_bytes(whole[:-9])
    assert "cannot be read" in refusal(capsys, asked)
    write(cache / "scores" / "fuzz", 1, [{"prediction": True}])
    split.write_bytes(whole)
    assert "no result of fuzz" in refusal(capsys, asked)
    nothing = ["import", str(tmp_path / "none"), "--format", "delphi", "--run", str(run)]
    assert "no delphi cache" in refusal(capsys, nothing)
    assert not run.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
