"""How far a run is, in a few lines of plain text. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autointerp.pipeline.status import ENDED, FRESH

Document = Mapping[str, Any]

_FAULTS = {
    "busy": "answers that the server is busy",
    "connection": "connection errors",
    "garbled": "garbled answers",
    "server": "errors of the server",
    "timeout": "timeouts",
}


def headline(document: Document) -> Iterator[str]:
    """Where a run is, by what ``status`` found of it, and how many latents have what."""
    stage, told = document["stage"], ""
    if not document["running"] and stage not in ENDED:
        stage = f"stopped in {stage} and not running; run it again to continue"
    elif document["running"] and document["age"] > FRESH:
        told = f"; no news for {duration(document['age'])}"
    host = f" on {document['host']}" if document["running"] and "host" in document else ""
    yield f"{document['run']}: {stage}, {duration(document['seconds'])}{host}{told}"
    if document.get("reason"):
        yield document["reason"]
    statuses = counted(document["by_status"]).replace("_", " ") or "none yet"
    yield f"{document['latents']:,} latents: {statuses}"


def lines(document: Document) -> Iterator[str]:
    """What ``status.json`` says beside its stage: progress, requests, cost, trouble, scores."""
    if told := pace(document):
        yield told
    if told := asked(document):
        yield told
    if told := spent(document):
        yield told
    yield from trouble(document)
    yield from scores(document)


def pace(document: Document) -> str:
    """How many are done in the stage, how fast it goes, and how long it takes yet."""
    progress = document.get("progress") or {}
    if not progress.get("total") or document["stage"] == "done":
        return ""
    done, total = progress["done"], progress["total"]
    told = [f"{progress['stage']} {done:,} of {total:,} ({done / total:.0%})"]
    if progress["per_second"] and done < total:
        told += [f"{progress['per_second']:,.3g}/s", f"{duration(progress['seconds_left'])} left"]
    return ", ".join(told)


def asked(document: Document) -> str:
    """The requests of the process to language models; nothing where it asked none."""
    llm = document.get("llm") or {}
    waves = llm.get("waves")
    if not (llm.get("requests") or llm.get("journaled") or llm.get("in_flight") or waves):
        return ""
    told = [f"{llm['requests']:,} answered"]
    if waves:
        what = "batch" if waves["batches"] == 1 else "batches"
        of = f"{waves['answered']:,} of {waves['requests']:,} answered"
        told = [f"{waves['batches']:,} {what} under way ({of})", *told]
    elif document.get("running", True):
        pace = f"{llm['requests_per_second']:.3g} requests/s"
        told = [pace, f"{llm['in_flight']:,} in flight", *told]
    if llm["journaled"]:
        told.append(f"{llm['journaled']:,} from the journal")
    if llm["cached_share"] is not None:
        told.append(f"{llm['cached_share']:.0%} of prompt tokens cached")
    return ", ".join(told)


def spent(document: Document) -> str:
    """What the run has cost so far, beside its budget; nothing where there is neither."""
    budget = document.get("budget") or {}
    told = []
    for name, of in budget.items():
        if of["limit"] is None and (name == "hours" or not of["spent"]):
            continue
        told.append(_amount(name, of["spent"], of["limit"]))
    return "spent: " + ", ".join(told) if told else ""


def _amount(name: str, value: float, limit: float | None) -> str:
    if name == "dollars":
        return f"${value:,.4g}" + ("" if limit is None else f" of ${limit:,.4g}")
    of = "" if limit is None else f" of {limit:,.6g}"
    return f"{value:,.6g}{of} {name.replace('_', ' ')}"


def trouble(document: Document) -> Iterator[str]:
    """What failed, what was sent again, and whose price is not known."""
    if failures := document.get("failures"):
        yield f"failed: {counted(failures)}"
    llm = document.get("llm") or {}
    if llm.get("faults"):
        faults = (f"{_FAULTS.get(k, k)}: {_times(n)}" for k, n in llm["faults"].items())
        yield f"sent again after {', '.join(faults)}"
    if llm.get("repaired") or llm.get("unusable"):
        yield f"replies that did not fit: {llm['repaired']:,} repaired, {llm['unusable']:,} not"
    if llm.get("unpriced"):
        yield (
            f"{llm['unpriced']:,} answers have no known price and are in no sum of dollars;"
            " set llms.NAME.prices"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def scores(document: Document) -> Iterator[str]:
    """The mean of every scorer so far, with the control that tells it from nothing."""
    for scorer, figures in (document.get("scores") or {}).items():
        if figures["mean"] is None:
            yield f"{scorer}: nothing scored yet"
            continue
        shuffled = figures["controls"].get("shuffled")
        beside = "" if shuffled is None else f", shuffled {shuffled:.3f}"
        yield (
            f"{scorer}: {figures['metric']} {figures['mean']:.3f} "
            f"({figures['low']:.3f} to {figures['high']:.3f}) over {figures['n']}{beside}"
        )


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def counted(counts: Mapping[str, int]) -> str:
    """How many there are of each."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
