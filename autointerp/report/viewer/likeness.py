"""Latents whose explanations say much the same: they share words, and rare ones above all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from math import log

from autointerp.report.viewer.schema import COLUMNS
from autointerp.report.viewer.search import fold, words_of

RAREST = 6  # words of an explanation by which others like it are found
CANDIDATES = 200  # that have one of these words, or one pair of them


def nearest(c: sqlite3.Connection, id: int, text: str, latents: int, most: int) -> list[int]:
    """Ids of the latents with the likest explanations, the likest first.

    The likeness of two explanations is the weight of the words in both over that of the words in
    either (weighted Jaccard); a word weighs the logarithm of one over the share of ``latents`` that
    have it.
    """
    weights = _weights(c, {fold(word) for word in words_of(text)}, latents)
    found = {}
    for other in set(_candidates(c, weights)) - {id}:
        row = c.execute("SELECT shown FROM latents WHERE id = ?", (other,)).fetchone()
        words = {fold(word) for word in words_of(row[0])}
        shared = sum(weights[word] for word in words & weights.keys())
        either = sum(weights.values()) + sum(_weights(c, words - weights.keys(), latents).values())
        found[other] = shared / either
    best = sorted(found, key=lambda other: (-found[other], other))
    return [other for other in best[:most] if found[other] > 0]


def _weights(c: sqlite3.Connection, words: Iterable[str], latents: int) -> dict[str, float]:
    sql = "SELECT latents FROM vocabulary WHERE word = ?"
    counts = {word: c.execute(sql, (word,)).fetchone() for word in words}
    return {word: log((latents + 1) / row[0]) for word, row in counts.items() if row}


def _candidates(c: sqlite3.Connection, weights: Mapping[str, float]) -> Iterator[int]:
    rarest = sorted(weights, key=lambda word: (-weights[word], word))[:RAREST]
    sql = (
        "SELECT o.id FROM words_0 w JOIN order_0 o ON o.place = w.rowid"
        f" WHERE words_0 MATCH ? LIMIT {CANDIDATES}"
    )
    for some in [*combinations(rarest, 2), *combinations(rarest, 1)]:
        asked = " AND ".join(f'"{word}"' for word in some)
        for (id,) in c.execute(sql, (f"{COLUMNS} : ({asked})",)):
            yield id
