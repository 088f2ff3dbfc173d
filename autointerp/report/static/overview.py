"""What a run was made of, as its directory tells: configuration, versions, status."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autointerp.pipeline import directory

HIDDEN = "(hidden)"
_SECRET = re.compile("key|secret|password|token|credential|authorization", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]+@")
Tree = dict[str, Any]


@dataclass(frozen=True)
class Overview:
    """The parts of ``config.yaml`` that people ask for first, the whole of it, and versions."""

    facts: list[tuple[str, str]]
    config: str
    versions: dict[str, str]
    checkpoints: dict[str, str]


def overview(run: Path) -> Overview:
    """What the directory has of it; a run from elsewhere may have none."""
    config = configuration(run)
    record = directory.read_record(run)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""
    return Overview(
        _facts(config, record), text, record.get("versions", {}), record.get("checkpoints", {})
    )


def configuration(run: Path) -> Tree:
    """The resolved configuration, without what might be secret; empty if there is none."""
    path = run / directory.CONFIG
    tree: Tree = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
    shown: Tree = without_secrets(tree)
    return shown


def without_secrets(value: Any, name: str = "") -> Any:
    """A tree in which texts under names such as ``api_key``, and users in URLs, are hidden."""
    if isinstance(value, dict):
        return {key: without_secrets(below, str(key)) for key, below in value.items()}
    if isinstance(value, list):
        return [without_secrets(below, name) for below in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if _SECRET.search(name) else _USER.sub("", value)


def _facts(config: Tree, record: Tree) -> list[tuple[str, str]]:
    if not config:
        return []
    subject, corpus = config["subject"], config["corpus"]
    explainer = config["explainer"]
    tiers = explainer.get("tiers", [explainer])
    facts = [
        (
            "Subject",
            f"{subject['model']} ({subject['dtype']}, context {subject['context_length']})",
        ),
        ("Corpus", f"{corpus['source']}, up to {corpus['tokens']:,} tokens"),
        ("Corpus fingerprint", record.get("corpus", "")),
        ("Latents", ", ".join(f"{name}: {which}" for name, which in config["latents"].items())),
        ("Explainer", ", then ".join(map(_kind, tiers))),
        ("Scorers", ", ".join(map(_kind, config["scorers"]))),
        *((f"Language model: {name}", _llm(llm)) for name, llm in config["llms"].items()),
        ("Seed", str(config["run"]["seed"])),
    ]
    return [(name, value) for name, value in facts if value]


def _kind(section: Tree) -> str:
    """A kind with its judge or roles."""
    beside = section.get("judge") or section.get("roles")
    name = beside.get("kind") if isinstance(beside, dict) else beside
    what = "judge" if section.get("judge") else "roles"
    return f"{section['kind']} ({what}: {name})" if name else str(section["kind"])


def _llm(llm: Tree) -> str:
    place = llm.get("base_url") or llm.get("backend")
    return f"{llm['model']} ({place})"
