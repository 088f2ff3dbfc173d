"""The rows of a results file as rows of the published tables, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
Hide = Callable[[str], str]  # of a text that may name places of this machine

PROBES = "probes"  # the events whose texts may repeat the corpus


def explanation_rows(stored: Sequence[Any], hide: Hide, *, probes: bool) -> tuple[Row, list[Row]]:
    """A row of the results' explanations as one of ours, and its events.

    An event is an object of a list of the details; what else there is of them stays in
    ``details``. Without ``probes`` those are left out.
    """
    coder, index, kind, explainer, text, status, reason, parts, confidence, cost, packed = stored
    latent = f"{coder}/{index}"
    identity = f"{latent}:{kind}:{explainer}"
    details = _told(json.loads(zlib.decompress(packed)), hide)
    lists = {key: value for key, value in details.items() if _is_list_of_objects(value)}
    events = [
        legible(
            {
                "latent": latent,
                "index": index,
                "explanation": identity,
                "kind": key,
                "place": place,
                "text": item["text"] if isinstance(item.get("text"), str) else None,
                "data": dump(item),
            }
        )
        for key, items in sorted(lists.items())
        if probes or key != PROBES
        for place, item in enumerate(items)
    ]
    row = {
        "latent": latent,
        "index": index,
        "id": identity,
        "kind": kind,
        "explainer": explainer,
        "text": text,
        "status": status,
        "reason": None if reason is None else hide(reason),
        "components": json.loads(parts),
        "confidence": confidence,
        "cost": json.loads(cost),
        "details": dump({key: value for key, value in details.items() if key not in lists}),
    }
    return legible(row), events


def _told(details: Mapping[str, Any], hide: Hide) -> dict[str, Any]:
    """Details whose messages, which are not in lists, are fit to be published."""
    return {key: hide(v) if isinstance(v, str) else v for key, v in details.items()}


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def score_row(stored: Sequence[Any], hide: Hide) -> Row:
    """A row of the results' scores, less its outcomes, as one of ours."""
    coder, index, explanation, scorer, control, judge, headline, chance = stored[:8]
    metrics, status, reason, cost, details = stored[8:13]
    measured = {
        name: dict(zip(("value", "low", "high", "n"), values, strict=True))
        for name, values in json.loads(metrics).items()
    }
    none = dict.fromkeys(("value", "low", "high", "n"))
    return legible(
        {
            "latent": f"{coder}/{index}",
            "index": index,
            "explanation": explanation or None,
            "scorer": scorer,
            "control": control,
            "judge": judge,
            "headline": headline,
            **measured.get(headline, none),
            "chance": chance,
            "status": status,
            "reason": None if reason is None else hide(reason),
            "metrics": [{"name": name, **figures} for name, figures in measured.items()],
            "cost": json.loads(cost),
            "details": dump(_told(json.loads(details), hide)),
        }
    )


def dump(value: Any) -> str:
    """JSON that is the same however the value was made, and ASCII whatever its texts hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def legible(row: Row) -> Row:
    """The row with texts that UTF-8 can hold.

    Lone surrogates, which it cannot, become U+FFFD, and ``exact`` has the columns they were in
    as JSON.
    """
    exact = {name: value for name, value in row.items() if not _fits(value)}
    if not exact:
        return {**row, "exact": None}
    shown = {name: _shown(value) for name, value in exact.items()}
    return {**row, **shown, "exact": dump(exact)}


def exactly(row: Mapping[str, Any]) -> Row:
    """The row that :func:`legible` was given."""
    whole = {name: value for name, value in row.items() if name != "exact"}
    return {**whole, **(json.loads(row["exact"]) if row["exact"] else {})}


def _fits(value: Any) -> bool:
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in value)
    return not isinstance(value, list) or all(map(_fits, value))


def _shown(value: Any) -> Any:
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return well_formed(value)


def well_formed(text: str) -> str:
    """The text with U+FFFD for every lone surrogate, which UTF-8 cannot hold."""
    return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in text)
