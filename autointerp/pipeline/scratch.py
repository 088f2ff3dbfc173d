"""A run's examples in a directory of their own, for work that must leave the run as it is."""

from __future__ import annotations

import os
from pathlib import Path

from autointerp.config import RunConfig
from autointerp.examples.store import MARKER
from autointerp.pipeline import directory
from autointerp.pipeline.standins import small_corpus


def collected(config: RunConfig) -> bool:
    """Whether the run has its examples."""
    return (config.run.path / directory.EXAMPLES / MARKER).exists()


def scratch_run(config: RunConfig, path: Path) -> RunConfig:
    """The configuration of a run at ``path``: over the examples of the run, if it has some, else
    over a small part of the corpus."""
    if collected(config):
        _link(config.run.path / directory.EXAMPLES, path / directory.EXAMPLES)
    else:
        config = small_corpus(config)
    place = {"directory": path.parent, "name": path.name}
    return config.model_copy(update={"run": config.run.model_copy(update=place)})


def _link(folder: Path, place: Path) -> None:
    """The same tree of folders with links for files: what is added there is not added here."""
    for root, _, names in os.walk(folder):
        there = place / Path(root).relative_to(folder)
        there.mkdir(parents=True)
        for name in names:
            (there / name).symlink_to((Path(root) / name).resolve())
