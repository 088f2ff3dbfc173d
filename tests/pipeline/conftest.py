"""What tests of whole runs that ask a language model share."""

from __future__ import annotations

from pathlib import Path

import pytest
from llm_runs import collect, prepare_this_process
from planted_coders import Planted


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks again without a wait, and has a key."""
    prepare_this_process(monkeypatch)


@pytest.fixture(scope="session")
def collected(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory in which nothing is explained yet, for copies."""
    return collect(tmp_path_factory.mktemp("collected") / "run", planted)
