"""The embedder's files are looked for here first, and the hub is asked once."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from embedding_model import minilm
from huggingface_hub import constants
from planted_coders import Planted
from small_run import refusal, settings

from autointerp.latents import AutointerpError
from autointerp.pipeline.embedding import load_embedder
from autointerp.subject import embedder

COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def _sentence_transformers() -> None:
    pytest.importorskip("sentence_transformers")


def keep(folder: Path, files: Path | None) -> None:
    """Lay ``files`` out as the hub's client keeps a repository that it has fetched."""
    held = folder / "models--some--model"
    (held / "refs").mkdir(parents=True)
    (held / "refs" / "main").write_text(COMMIT)
    (held / "snapshots").mkdir()
    if files:
        (held / "snapshots" / COMMIT).symlink_to(files)
    else:
        (held / "snapshots" / COMMIT).mkdir()


def refuse(*_: Any, **__: Any) -> None:
    raise ConnectionError("Name or service not known")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_what_was_fetched_before_is_used_and_nobody_asked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, Path(minilm()))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: pytest.fail("asked"))
    assert load_embedder("some/model", device="cpu")(["a cat"]).shape == (1, 384)


@pytest.mark.parametrize("partly", [False, True])
def test_a_hub_that_does_not_answer_is_asked_once_and_a_folder_named(
    cache: Path, partly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def away(*_: Any, timeout: float, **__: Any) -> None:
        asked.append(timeout)
        refuse()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", away)
    if partly:
        keep(cache, None)
    began = time.monotonic()
    with pytest.raises(AutointerpError, match=r"not known.*embedder\.model=FOLDER") as caught:
        load_embedder("some/model")
    assert "--model FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(asked) == 1
    assert asked[0] <= 10
    assert time.monotonic() - began < 30


def test_a_run_without_its_embedder_is_refused_before_any_work_and_leaves_nothing(
    cache: Path,
    planted: Planted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    run, chosen = tmp_path / "run", settings(planted, "alive:1", "0")
    semantic = ["run", "--run", str(run), *chosen, "scorers=[{kind: embedding}]"]
    said = refusal(capsys, [*semantic, "embedder.model=some/model"])
    assert "embedder: cannot load the embedder 'some/model'" in said
    assert not run.exists()
    assert not cache.exists()


def test_the_first_signal_ends_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    monkeypatch.setattr(
        embedder, "load_embedder", lambda *_, **__: signal.raise_signal(signal.SIGINT)
    )
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            load_embedder(str(tmp_path))
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]  # whoever listened before listens again
    finally:
        signal.signal(signal.SIGINT, before)
