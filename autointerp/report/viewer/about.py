"""What a run was made with and came to, without anything that should not be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autointerp.pipeline.status import read_status
from autointerp.report.configuration import as_yaml, configuration


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
        "config": as_yaml(configuration(run)),
    }


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
