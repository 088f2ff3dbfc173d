"""What each page shows, as values for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from autointerp.latents import AutointerpError, LatentId
from autointerp.latents.scales import LEVELS
from autointerp.pipeline.fired import Fired, Reading
from autointerp.report.tokens import line
from autointerp.report.viewer.facets import Choice
from autointerp.report.viewer.forms import FIELDS, Asked, place_of
from autointerp.report.viewer.listed import COUNTED, Listed
from autointerp.report.viewer.search import marked
from autointerp.report.viewer.sides import Document, Shown, Side

Values = dict[str, Any]

LONGEST = 400  # characters of an explanation in a list
FIRED, FEWEST_FIRED = 40, 10  # latents of a text, that are shown with its tokens
SHOWN_CHARACTERS = 60_000  # of all repetitions of a text
SHOWN_PROBES = 100
FIRSTS = (Choice("b", "what B scores more", ()), Choice("a", "what A scores more", ()))


def search_page(side: Side, asked: Asked) -> Values:
    """A page of latents, and the form they were asked for with."""
    index = side.index
    page = index.page(asked.query)
    return {
        "fields": {name: asked.fields.get(name, "") for name in FIELDS},
        "narrowed": bool(asked.fields),
        "unsearchable": asked.unsearchable,
        "rows": [
            {"entry": row, "pieces": marked(cut(row.text), asked.query.terms)} for row in page.rows
        ],
        "count": counted(page.count),
        "filtered": bool(asked.query.match),
        "before": page.before and asked.address(before=page.before),
        "after": page.after and asked.address(after=page.after),
        "order": asked.query.order,
    }


def counted(count: int) -> str:
    """A number of matches; more than are counted is only told to be more."""
    return f"{COUNTED:,}+" if count > COUNTED else f"{count:,}"


def cut(text: str) -> str:
    """No more of an explanation than a list has room for."""
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def latent_page(side: Side, row: Listed, document: Document, decoder: bool) -> Values:
    """All that the run knows of a latent. ``decoder`` asks for neighbours by direction."""
    before, after = side.index.next_to(row)
    near, near_told = _near(side, row.latent) if decoder else ([], None)
    return {
        "row": row,
        "document": document,
        "previous": before,
        "next": after,
        "examples": _examples(document["examples"]),
        "top_tokens": document["statistics"].get("top_tokens", ()),
        "logit_lens": document["statistics"].get("logit_lens", ()),
        "probes": [_probe(probe) for probe in document["probes"][:SHOWN_PROBES]],
        "more_probes": max(0, len(document["probes"]) - SHOWN_PROBES),
        "alike": side.index.alike(row),
        "near": near,
        "near_told": near_told,
    }


def _examples(examples: Sequence[Document]) -> list[Values]:
    """The strongest first, the colours of all on one scale."""
    most = max((max(e["activations"], default=0) for e in examples), default=0)
    lines = [{**e, "line": line(e["tokens"], e["activations"], most)} for e in examples]
    return sorted(lines, key=lambda example: -example["line"].maximum)


def _probe(probe: Document) -> Values:
    said = {k: v for k, v in probe["predictions"].items() if v != "abstain"}
    return {**probe, "line": line(probe["tokens"], probe["levels"], LEVELS), "said": said}


def _near(side: Side, latent: LatentId) -> tuple[list[Values], str | None]:
    """Neighbours by decoder direction, or why there are none."""
    try:
        found = side.live.nearest(latent)
    except AutointerpError as error:
        return [], str(error)
    known = side.index.known(name for name, _ in found)
    return [{"latent": name, "cosine": x, "entry": known.get(name)} for name, x in found], None


def live_page(side: Side, text: str) -> Values:
    """The latents that fire on a text: explained ones by the share of their largest activation on
    the corpus that they reach here, then others by their activation."""
    reading = side.live.fire(text)
    known = side.index.known(fired.latent for fired in reading.fired)
    explained = [fired for fired in reading.fired if fired.latent in known]
    explained.sort(key=lambda fired: -_share(fired.maximum, known[fired.latent]))
    others = sorted(
        (fired for fired in reading.fired if fired.latent not in known),
        key=lambda fired: -fired.maximum,
    )
    shown = min(FIRED, max(FEWEST_FIRED, SHOWN_CHARACTERS // len(text)))
    return {
        "tokens": len(reading.tokens),
        "fired": len(reading.fired),
        "explained": len(explained),
        "rows": [_fired(reading, fired, known[fired.latent]) for fired in explained[:shown]],
        "others": [_fired(reading, fired, None) for fired in others[:FEWEST_FIRED]],
    }


def _fired(reading: Reading, fired: Fired, entry: Listed | None) -> Values:
    most = entry.maximum if entry else None
    return {
        "latent": fired.latent,
        "entry": entry,
        "share": fired.maximum / most if most else None,
        "line": line(reading.tokens, fired.activations(len(reading.tokens)), most),
    }


def _share(maximum: float, entry: Listed) -> float:
    return maximum / entry.maximum if entry.maximum else maximum


def compare_page(shown: Shown, fields: Mapping[str, str]) -> Values:
    """The latents that both runs have, by how much more the second scores."""
    pairs = shown.pairs
    assert pairs is not None
    place, direction = place_of(fields)
    first = "a" if fields.get("first") == "a" else "b"
    page = pairs.page(first == "a", place, direction)
    texts = [side.index.known(pair.latent for pair in page.rows) for side in shown.sides]
    a, b = ({latent: _said(row) for latent, row in known.items()} for known in texts)
    return {
        "pairs": pairs,
        "first": first,
        "firsts": FIRSTS,
        "rows": [{"pair": p, "a": a[p.latent], "b": b[p.latent]} for p in page.rows],
        "before": page.before and urlencode({"first": first, "before": page.before}),
        "after": page.after and urlencode({"first": first, "after": page.after}),
    }


def _said(row: Listed) -> str:
    return cut(row.text) if row.text else row.status.replace("_", " ")


def pair_page(sides: Sequence[Side], latent: LatentId) -> Values:
    """The same latent in two runs."""
    documents = [side.document(latent) for side in sides]
    scorers = list(dict.fromkeys(name for document in documents for name in document["scores"]))
    a, b = (document["examples"] for document in documents)
    return {
        "latent": latent,
        "same_examples": a == b,
        "both": [
            {
                "side": side,
                "row": side.index.latent(latent),
                "document": document,
                "examples": _examples(document["examples"]),
            }
            for side, document in zip(sides, documents, strict=True)
        ],
        "scores": [
            {
                "scorer": name,
                **{x: d["scores"].get(name) for x, d in zip("ab", documents, strict=True)},
            }
            for name in scorers
        ],
    }
