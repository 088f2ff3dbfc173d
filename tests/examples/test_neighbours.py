"""Hard negatives of a latent do not depend on which others are prepared with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from planted_coders import Planted
from small_run import settings

from autointerp.config import load_config
from autointerp.examples import negatives
from autointerp.examples.contrast import GROUPS, contrasts
from autointerp.examples.harvest import collect
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline import building


def test_negatives_are_the_same_alone_and_together(
    tmp_path: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, settings(planted))
    subject = building.build_subject(config)
    coders = building.attach(config, subject, building.build_coders(config))
    corpus, examples = building.corpus_options(config), building.example_options(config)
    collect(subject, coders, corpus, examples, tmp_path / "1")
    shutil.copytree(tmp_path / "1", tmp_path / "1024")
    latents = [LatentId(name, index) for name in coders for index in range(20)]
    prepared = {}
    for together in (1, 1024):
        monkeypatch.setattr(negatives, "CHUNK", together)
        store = ExampleStore.open(tmp_path / str(together))
        negatives.prepare(store, subject, coders, latents)
        prepared[together] = contrasts(store)
    for latent in latents:
        for group in GROUPS:
            alone = prepared[1].windows(latent, group)
            np.testing.assert_array_equal(alone, prepared[1024].windows(latent, group))
