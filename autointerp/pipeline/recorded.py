"""What a run's directory keeps as its configuration: the command's, and what is behind its scores.

A command may score with other scorers than those before it. The rows of all of them stay, and so
does what the report, the export, the controls and the next command know of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autointerp.config import RunConfig, build_config, load_config
from autointerp.latents import AutointerpError
from autointerp.pipeline import building, directory
from autointerp.pipeline.results import Results


def earlier_config(run: Path, results: Results) -> RunConfig | None:
    """The configuration that the results of a run were made with; None without any results.

    Raises:
        AutointerpError: if the file of it cannot be read.
    """
    path = run / directory.CONFIG
    return load_config(path) if results.has_rows() and path.exists() else None


def with_earlier_scorers(
    config: RunConfig, earlier: RunConfig | None, results: Results
) -> RunConfig:
    """The configuration with those scorers of ``earlier``, first, that it does not name and that
    the results have scores of; and with all that they need."""
    if earlier is None:
        return config
    named = [section["kind"] for section in config.scorers]
    for section in reversed(earlier.scorers):
        if section["kind"] in named or not results.has_scores(section["kind"]):
            continue
        try:
            config = _with(config, earlier, section)
        except AutointerpError:
            continue  # its judge reads nothing that the explainer of today writes
    return config


def _with(config: RunConfig, earlier: RunConfig, section: dict[str, Any]) -> RunConfig:
    """Sections that the configuration itself has no use for are the earlier ones."""
    asked = earlier.model_copy(update={"scorers": [section]}).llm_names("score")
    llms = {name: earlier.llms[name] for name in asked}
    changed: dict[str, Any] = {
        "scorers": [section, *config.scorers],
        "llms": {**llms, **config.llms},
    }
    if not building.needs_embedder(config):
        changed["embedder"] = earlier.embedder
    if not building.needs_effects(config):
        changed["effects"] = earlier.effects
    return build_config(config.model_copy(update=changed).model_dump(mode="json"))
