"""What a run was made with and came to, without anything that should not be seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from autointerp.pipeline.directory import CONFIG
from autointerp.pipeline.status import read_status

HIDDEN = frozenset({"api_key_env", "extra_body", "serve"})  # of a language model


def about(run: Path) -> dict[str, Any]:
    """The values of the page about a run, read from its directory."""
    status = read_status(run) or {}
    cost = status.get("cost", {})
    figures = {
        "latents": _count(status.get("latents")),
        "explained": _count(status.get("explained")),
        "failed": _count(status.get("failed")),
        "requests": _count(cost.get("requests")),
        "prompt tokens": _count(cost.get("prompt_tokens")),
        "dollars": f"{cost['dollars']:.2f}" if cost.get("dollars") is not None else None,
    }
    return {
        "run": str(run),
        "stage": status.get("stage"),
        "figures": {name: value for name, value in figures.items() if value is not None},
        "scores": status.get("scores", {}),
        "config": _config(run / CONFIG),
    }


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _config(path: Path) -> str | None:
    if not path.is_file():
        return None
    tree = yaml.safe_load(path.read_text("utf-8"))
    shown: str = yaml.safe_dump(without_secrets(tree), sort_keys=False, allow_unicode=True)
    return shown


def without_secrets(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration less keys' names, free-form request fields and the servers' commands."""
    llms = {name: _llm(section) for name, section in (tree.get("llms") or {}).items()}
    return {**tree, **({"llms": llms} if llms else {})}


def _llm(section: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in section.items() if key not in HIDDEN}
    if kept.get("base_url"):
        kept["base_url"] = _plain(kept["base_url"])
    return kept


def _plain(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
