"""How far the shards of a run are, added up from what each says of itself. Imports nothing heavy.

Only files are read, so that it does not matter on which machines the shards work.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autointerp.pipeline.status import Document, age, is_at_work, read_status

SHARDS = "shards"  # a run's folder of those of its shards
RECORD = "shard.json"  # a shard's: what it has finished, null for what it has only begun
MERGED = "merged.json"  # a run's: the same of what was merged, by the shards' folders
STAGES = ("collect", "explain", "score")
_COUNTED = ("latents", "explained", "failed")


def added_up(run: Path) -> Document | None:
    """The status of a run whose shards are not all merged: theirs, added up; else its own, or None
    if it has none.

    ``shards`` tells of each shard of the last such stage, by its folder.
    """
    own = read_status(run)
    found = _last_unmerged(run)
    if found is None:
        return own
    stage, of = found
    folders = [run / SHARDS / f"{number}-of-{of}" for number in range(1, of + 1)]
    told = {folder.name: _shard(folder, stage) for folder in folders}
    begun_in = [folder for folder in folders if stage in _record(folder)]
    known = [document for folder in begun_in if (document := read_status(folder))]
    begun = [shard for shard in told.values() if shard["state"] != "not begun"]
    return {
        **_sums(known, own if stage == "score" else None),
        "run": str(run),
        "stage": f"{stage} in {of} shards",
        "reason": None,
        "seconds": sum(document["seconds"] for document in known),
        "running": any(shard["state"] == "at work" for shard in begun),
        "age": min((shard["age"] for shard in begun), default=0.0),
        "shards": told,
    }


def shard_lines(document: Document) -> list[str]:
    """The shards in words, those of a state on one line; how to go on, if all are finished."""
    by_state: dict[str, list[str]] = {}
    for name, shard in document["shards"].items():
        where = f" on {shard['host']}" if shard["state"] == "at work" else ""
        words = f"{name.replace('-of-', '/')} ({shard['done']}){where}"
        by_state.setdefault(shard["state"], []).append(words)
    states = ", ".join(f"{len(shards)} {state}" for state, shards in by_state.items())
    lines = [
        f"{document['run']}: {document['stage']}: {states}; {document['seconds']:.0f} s of work"
    ]
    lines += [f"{state}: {', '.join(shards)}" for state, shards in by_state.items()]
    counts = ", ".join(f"{name} {count}" for name, count in document["by_status"].items())
    lines.append(f"{document['latents']} latents: {counts or 'none yet'}")
    if list(by_state) == ["finished"]:
        lines.append(f"all shards are finished: autointerp merge {document['run']}")
    return lines


def _last_unmerged(run: Path) -> tuple[str, int] | None:
    """The last stage with a shard that is not merged, and of how many it is."""
    merged = read_record(run / MERGED)
    found: list[tuple[int, int]] = []
    for folder in (run / SHARDS).glob("[0-9]*-of-[0-9]*"):
        for stage, finished in _record(folder).items():
            if finished is None or merged.get(stage, {}).get(folder.name) != finished:
                found.append((STAGES.index(stage), int(folder.name.partition("-of-")[2])))
    if not found:
        return None
    place, of = max(found)
    return STAGES[place], of


def _shard(folder: Path, stage: str) -> dict[str, Any]:
    """One shard: its ``state``, and what it has ``done``."""
    document, record = read_status(folder), _record(folder)
    if stage not in record or document is None:
        return {"state": "not begun", "done": "nothing yet"}
    state = "finished" if record[stage] is not None else "stopped"
    if is_at_work(folder, document):
        state = "at work"
    return {
        "state": state,
        "done": _done(document),
        "stage": document["stage"],
        "reason": document["reason"],
        "host": document.get("host", ""),
        "age": round(age(folder, document), 1),
        **{name: document[name] for name in _COUNTED},
    }


def _done(document: Document) -> str:
    progress = document.get("progress") or {}
    if not progress.get("total"):
        return str(document["stage"])
    return f"{progress['stage']} {progress['done']:,} of {progress['total']:,}"


def _sums(documents: Sequence[Document], own: Document | None) -> dict[str, Any]:
    """Counts, costs and means of all shards. What they score is explained in ``own``."""
    counted = Counter[str]()
    statuses = Counter[str]()
    cost = Counter[str]()
    for document in documents:
        counted.update({name: document[name] for name in _COUNTED})
        statuses.update(document["by_status"])
        cost.update(document["cost"])
    sums: dict[str, Any] = {name: counted[name] for name in _COUNTED}
    sums |= {"by_status": dict(sorted(statuses.items())), "cost": dict(cost)}
    sums["budget"] = _budget([document.get("budget", {}) for document in documents])
    if own is not None:
        sums |= {name: own[name] for name in ("latents", "explained", "by_status")}
    return {**sums, "scores": _scores([document["scores"] for document in documents])}


def _budget(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What shards have spent together, of the shares that they have of the run's budget."""
    sums = {}
    for name in ("dollars", "prompt_tokens"):
        parts = [budget[name] for budget in found if name in budget]
        limits = [part["limit"] for part in parts if part["limit"] is not None]
        spent = sum(part["spent"] for part in parts)
        sums[name] = {"spent": spent, "limit": sum(limits) if limits else None}
    return sums


def _scores(found: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The mean of each scorer, with the interval that follows if shards are independent strata."""
    sums: dict[str, Any] = {}
    for scorer in sorted({name for scores in found for name in scores}):
        parts = [s[scorer] for s in found if scorer in s and s[scorer]["mean"] is not None]
        n = sum(part["n"] for part in parts)
        if not n:
            sums[scorer] = {"metric": None, "n": 0, "mean": None, "low": None, "high": None}
            continue
        mean = sum(part["n"] * part["mean"] for part in parts) / n
        below, above = (
            math.sqrt(sum((part["n"] * (part["mean"] - part[end])) ** 2 for part in parts)) / n
            for end in ("low", "high")
        )
        first = {key: parts[0][key] for key in ("metric", "chance")}
        interval = {"n": n, "mean": mean, "low": mean - below, "high": mean + above}
        sums[scorer] = first | interval | {"controls": _controls(parts)}
    return sums


def _controls(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = sorted({name for part in parts for name in part["control_intervals"]})
    found = {}
    for name in names:
        of = [p["control_intervals"][name] for p in parts if name in p["control_intervals"]]
        found[name] = sum(c["n"] * c["mean"] for c in of) / sum(c["n"] for c in of)
    return found


def _record(folder: Path) -> dict[str, Any]:
    return read_record(folder / RECORD)


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty without one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found
