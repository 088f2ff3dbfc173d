"""Patterns read on texts, as the subject's tokenizer cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Background, Example
from autointerp.patterns.grammar import Pattern
from autointerp.patterns.kept import Kept
from autointerp.patterns.matching import Lexicon, Windows

Encode = Callable[[str], Sequence[int]]  # a text's token ids, without special tokens
Ids = NDArray[np.int32]
TEXT_BYTES = 2**22  # of ids kept of texts: one reader serves a run


class Reader:
    """Runs patterns on texts as the subject's tokenizer reads them."""

    def __init__(self, lexicon: Lexicon, encode: Encode) -> None:
        self.lexicon = lexicon
        self._encode = encode
        self._ids: Kept[str, Ids] = Kept(TEXT_BYTES)

    def ids(self, text: str) -> Ids:
        """Token ids of a text."""
        return self._ids.get(text, lambda: np.asarray(self._encode(text), np.int32))

    def holds(self, pattern: Pattern, texts: Sequence[str]) -> list[bool]:
        """Whether the pattern matches anywhere in each text."""
        if not texts:
            return []
        rows = padded([self.ids(text) for text in texts])
        found = _windows(self.lexicon, rows).matches(pattern)
        return [any(row) for row in found.tolist()]

    def where(self, pattern: Pattern, ids: Ids) -> list[int]:
        """Positions of one row at which the pattern matches."""
        if not len(ids):
            return []
        found = _windows(self.lexicon, ids[None]).matches(pattern)
        return [int(place) for place in np.flatnonzero(found[0])]


def padded(rows: Sequence[Ids]) -> Ids:
    """Rows of ids under one another, [n, longest], padded on the left with −1."""
    longest = max([1, *map(len, rows)])
    out = np.full((len(rows), longest), -1, np.int32)
    for place, row in enumerate(rows):
        out[place, longest - len(row) :] = row
    return out


def whole(example: Example) -> Ids:
    """A window's ids with those before it."""
    return np.concatenate([example.left_ids, example.token_ids]).astype(np.int32)


def background_row(background: Background, row: int) -> Ids:
    """A background window's ids with those before it."""
    ids = np.concatenate([background.left_ids[row], background.token_ids[row]])
    return ids[ids >= 0].astype(np.int32)


def _windows(lexicon: Lexicon, rows: Ids) -> Windows:
    return Windows(lexicon, rows, nothing_before(rows))


def nothing_before(rows: Ids) -> Ids:
    return np.zeros((len(rows), 0), np.int32)
