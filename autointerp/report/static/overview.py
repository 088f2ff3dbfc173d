"""What a run was made of, as its directory tells: configuration and versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autointerp.pipeline import directory
from autointerp.report.configuration import as_yaml, configuration

Tree = dict[str, Any]


@dataclass(frozen=True)
class Overview:
    """The parts of ``config.yaml`` that people ask for first, the whole of it, and versions."""

    facts: list[tuple[str, str]]
    config: str
    versions: dict[str, str]


def overview(run: Path) -> Overview:
    """What the directory has of it; a run from elsewhere may have none."""
    config = configuration(run)
    record = directory.read_record(run)
    return Overview(_facts(config, record), as_yaml(config), record.get("versions", {}))


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
