"""The data set's card: what a run did, with what, at which cost, and how well."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from autointerp.export.licenses import in_words, license_fields

CARD = "README.md"
TEMPLATES = Path(__file__).parent / "templates"
MAIN = "explanations"  # the table that a coder's own configuration has
REPO = "REPOSITORY"
ABOUT = {
    "explanations": "an explanation of a latent, with its status and cost",
    "scores": "a score of an explanation, or of a control, with intervals",
    "outcomes": "one judged item of a score",
    "events": "what an explainer noted on its way: hypotheses, probes and the like",
    "latents": "what the whole corpus says of a latent",
    "examples": "a window of the corpus with the latent's activations",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"

Document = dict[str, Any]


def card(manifest: Mapping[str, Any], repo: str = REPO) -> str:
    """The card, in markdown with YAML at its head, from the manifest and the repository's name."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )  # markdown, not HTML: what goes into it is made fit by ``cell``
    environment.filters["cell"] = cell
    config = manifest["config"]
    status = manifest["status"]
    collected = manifest["collected"] or {}
    configurations = list(_configurations(manifest))
    text: str = environment.get_template("card.md.j2").render(
        front_matter=_front_matter(manifest, configurations),
        name=config["run"]["name"],
        repo=repo,
        named=repo != REPO,
        latents=manifest["latents"],
        first=next(iter(manifest["coders"].values()), {"folder": ""}),
        configurations=configurations,
        subject=config["subject"],
        coders=list(_coders(manifest, collected)),
        corpus=config["corpus"],
        tokens=collected.get("tokens"),
        fingerprint=collected.get("fingerprint"),
        explainer=_explainer(config["explainer"]),
        scorers=", ".join(map(_scorer, config["scorers"])),
        llms=config["llms"],
        seed=config["run"]["seed"],
        versions=_listed(manifest["record"].get("versions", {})),
        statuses=_statuses(status.get("by_status", {})),
        scores=list(_scores(status.get("scores", {}))),
        cost=_cost(status),
        examples=manifest["examples"],
        license=in_words(config["corpus"]["license"]),
    )
    return text


def cell(value: Any) -> str:
    """A text that stays what it is in a cell of a table, whatever markdown or HTML it holds."""
    plain = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|&!~$])", r"\\\1", plain)


def _configurations(manifest: Mapping[str, Any]) -> Iterator[Document]:
    """Every table of every coder; a coder's explanations have its own name."""
    for coder in manifest["coders"].values():
        folder = coder["folder"]
        for table in sorted(coder["tables"], key=list(ABOUT).index):
            yield {
                "name": folder if table == MAIN else f"{folder}.{table}",
                "rows": coder["tables"][table]["rows"],
                "about": ABOUT[table],
                "files": f"data/{folder}/{table}-*.parquet",
            }


def _front_matter(manifest: Mapping[str, Any], configurations: list[Document]) -> str:
    config = manifest["config"]
    rows = sum(e["rows"] for e in configurations if e["about"] == ABOUT[MAIN])
    fields = {
        **license_fields(config["corpus"]["license"]),
        "pretty_name": config["run"]["name"],
        "size_categories": [next((name for most, name in _SIZES if rows < most), _LARGEST)],
        "tags": ["interpretability", "sparse-autoencoder", "autointerp", "explanations"],
        "configs": [
            {
                "config_name": entry["name"],
                **({"default": True} if number == 0 else {}),
                "data_files": [{"split": "train", "path": entry["files"]}],
            }
            for number, entry in enumerate(configurations)
            if entry["rows"]
        ],
    }
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return text


def _coders(manifest: Mapping[str, Any], collected: Mapping[str, Any]) -> Iterator[Document]:
    none = dict.fromkeys(("hook", "width", "alive", "l0", "variance_explained"))
    for name in manifest["coders"]:
        section = manifest["config"]["subject"]["coders"].get(name, {"path": name})
        measured = collected.get("hookpoints", {}).get(name, {})
        yield {**none, **measured, "name": name, "path": section["path"]}


def _explainer(section: Mapping[str, Any]) -> str:
    tiers = [tier["kind"] for tier in section.get("tiers", [])]
    return f"{section['kind']} of {', then '.join(tiers)}" if tiers else str(section["kind"])


def _scorer(section: Mapping[str, Any]) -> str:
    judge = section.get("judge")
    return f"{section['kind']} (judge: {judge['kind']})" if judge else str(section["kind"])


def _listed(pairs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs.items())


def _statuses(counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return f"Of the latents asked for: {told}." if told else ""


def _scores(scores: Mapping[str, Any]) -> Iterator[Document]:
    for scorer, figures in scores.items():
        if figures["mean"] is None:
            continue
        controls = ", ".join(f"{k} {v:.3f}" for k, v in figures["controls"].items())
        yield {
            "scorer": scorer,
            "metric": figures["metric"],
            "n": f"{figures['n']:,}",
            "mean": f"{figures['mean']:.3f}",
            "interval": f"{_number(figures['low'])} to {_number(figures['high'])}",
            "chance": _number(figures["chance"]),
            "controls": controls,
        }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cost(status: Mapping[str, Any]) -> str:
    cost, seconds = status.get("cost", {}), status.get("seconds", 0.0)
    if not cost.get("requests"):
        return f"No language model was asked. The work took {seconds:,.0f} seconds."
    unpriced = status.get("llm", {}).get("unpriced")
    missing = " (the prices of some answers are not known, and not in it)" if unpriced else ""
    return (
        f"{cost['requests']:,} requests, {cost['prompt_tokens']:,} prompt tokens"
        f" ({cost['cached_tokens']:,} of them cached), {cost['completion_tokens']:,} completion"
        f" tokens, {cost['dollars']:,.2f} dollars{missing}; {seconds:,.0f} seconds."
    )
