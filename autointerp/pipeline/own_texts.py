"""The explanation that counts of each latent of a run, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results
from autointerp.sections import CASCADE


class OwnText(NamedTuple):
    """The explanation that counts of one latent."""

    latent: LatentId
    text: str


def own_texts(results: Results) -> Iterator[OwnText]:
    """The explanation that counts of every latent, by coder and index: of several explainers' the
    cascade's."""
    rows = results.query(f"{_EXPLAINED} ORDER BY coder, latent, explainer")
    for (coder, index), group in groupby(rows, lambda row: row[:2]):
        yield OwnText(LatentId(coder, index), _text(row[2:] for row in group))


_EXPLAINED = (
    "SELECT coder, latent, explainer, text FROM explanations"
    " WHERE kind = 'input' AND status = 'explained' AND trim(text) != ''"
)


def _text(rows: Iterator[tuple[str, str]]) -> str:
    by_explainer = dict(rows)
    return by_explainer.get(CASCADE) or next(iter(by_explainer.values()))


def text_of(results: Results, latent: LatentId) -> str:
    """The text of a latent that is explained."""
    query = f"{_EXPLAINED} AND coder = ? AND latent = ? ORDER BY explainer"
    return _text(row[2:] for row in results.query(query, (latent.coder, latent.index)))
