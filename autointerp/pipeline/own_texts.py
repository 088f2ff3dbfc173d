"""The explanation that counts of each latent of a run, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import NamedTuple, TypeVar

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.sections import CASCADE

EXPLAINER = "explainer"  # what a run was last about is noted under this key

T = TypeVar("T")


def counting(found: Mapping[str, T], explainer: str | None) -> T | None:
    """The one that counts of what several explainers made of one latent: that of the explainer
    which the run is about; where that is not known, or made nothing, the cascade's, else the
    first. None of none."""
    for name in (explainer, CASCADE, *found):
        if name is not None and name in found:
            return found[name]
    return None


class OwnText(NamedTuple):
    """The explanation that counts of one latent."""

    latent: LatentId
    text: str


def own_texts(results: Results) -> Iterator[OwnText]:
    """The explanation that counts of every latent, by coder and index."""
    explainer = results.noted(EXPLAINER)
    rows = results.query(f"{_EXPLAINED} ORDER BY coder, latent, explainer")
    for (coder, index), group in groupby(rows, lambda row: row[:2]):
        yield OwnText(LatentId(coder, index), _text((row[2:] for row in group), explainer))


_EXPLAINED = (
    "SELECT coder, latent, explainer, text FROM explanations"
    " WHERE kind = 'input' AND status = 'explained' AND trim(text) != ''"
)


def _text(rows: Iterator[tuple[str, str]], explainer: str | None) -> str:
    text = counting(dict(rows), explainer)
    assert text is not None
    return text


def text_of(results: Results, latent: LatentId) -> str:
    """The text of a latent that is explained."""
    query = f"{_EXPLAINED} AND coder = ? AND latent = ? ORDER BY explainer"
    rows = results.query(query, (latent.coder, latent.index))
    return _text((row[2:] for row in rows), results.noted(EXPLAINER))
