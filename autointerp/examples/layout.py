"""How documents are laid out: gathered into chunks, cut into windows, and into rows to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.corpus import document_hash, split_index
from autointerp.examples.documents import DOCUMENT, Geometry, mix, ranges
from autointerp.examples.state import BackgroundSample
from autointerp.examples.tally import Chunk, window_keys

CHUNK_TOKENS = 2**16
_FETCHED = 8  # documents encoded together

Encoded = list[NDArray[np.int32]]  # token ids, an array a document


@dataclass
class Rows:
    """The rows of a chunk, and where in it each begins."""

    tokens: Encoded = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


def grouped(
    texts: Iterator[str], encode: Callable[[Sequence[str]], Encoded], tokens: int
) -> Iterator[tuple[list[str], Encoded]]:
    """Groups of documents of about CHUNK_TOKENS tokens each, until there are ``tokens``.

    The groups depend on the documents alone, so that a resumed pass forms the same ones.
    """
    pending: list[tuple[str, NDArray[np.int32]]] = []
    while tokens > 0:
        group: list[str] = []
        encoded: Encoded = []
        size = 0
        while size < min(CHUNK_TOKENS, tokens):
            if not pending:
                fetched = list(islice(texts, _FETCHED))
                if not fetched:
                    break
                pending = list(zip(fetched, encode(fetched), strict=True))
            text, ids = pending.pop(0)
            group.append(text)
            encoded.append(ids[: tokens - size])
            size += len(encoded[-1])
        if not group:
            return
        tokens -= size
        yield group, encoded


class Group(NamedTuple):
    """Documents that are read together; ``before`` are the tokens of the corpus before them."""

    before: int
    texts: list[str]
    encoded: Encoded
    own: bool  # whether they are this pass's to read


def placed(
    groups: Iterable[tuple[list[str], Encoded]], before: int, own: tuple[int, int], done: int
) -> Iterator[Group]:
    """The groups up to the end of the range ``own``, in tokens of the corpus.

    Those that begin in the range belong to this pass, less the first ones of together ``done``
    tokens. ``before`` are the tokens before the first group.
    """
    for texts, encoded in groups:
        if before >= own[1]:
            return
        size = sum(map(len, encoded))
        mine = before >= own[0]
        yield Group(before, texts, encoded, mine and done <= 0)
        done -= size if mine else 0
        before += size


def recorded(
    texts: Sequence[str],
    encoded: Encoded,
    geometry: Geometry,
    splits: tuple[float, float, float],
    seed: int,
) -> NDArray[np.void]:
    """A DOCUMENT record of each text; offsets and windows count from the first."""
    records = np.zeros(len(texts), DOCUMENT)
    offset = windows = 0
    for i, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
        identity = document_hash(text)
        head = geometry.head(identity, seed, len(ids))
        split = split_index(identity, splits)
        records[i] = (offset, identity, windows, len(ids), head, split)
        offset += len(ids)
        windows += geometry.windows(len(ids), head)
    return records


def rows_of(encoded: Encoded, records: NDArray[np.void], geometry: Geometry) -> Rows:
    """The rows in which the subject reads a group of documents."""
    rows = Rows()
    for ids, record in zip(encoded, records, strict=True):
        for low, high in geometry.rows(len(ids), int(record["head"])):
            rows.tokens.append(ids[low:high])
            rows.starts.append(int(record["offset"]) + low)
    return rows


def chunk_of(
    encoded: Encoded,
    records: NDArray[np.void],
    geometry: Geometry,
    seed: int,
    first_window: int,
    background: BackgroundSample,
) -> Chunk:
    """The windows of a group of documents, numbered from ``first_window``; they are offered to
    the background sample."""
    size = geometry.window
    lengths = records["length"].astype(np.int64)
    heads = records["head"].astype(np.int64)
    per_document = np.maximum(lengths - heads, 0) // size
    owner = np.repeat(np.arange(len(records)), per_document)
    starts = ranges(np.zeros(len(records), np.int64), per_document) * size + heads[owner]
    tokens = np.concatenate(encoded)
    at = (records["offset"].astype(np.int64)[owner] + starts)[:, None] + np.arange(size)
    window_of = np.full(len(tokens), -1, np.int32)
    position = np.zeros(len(tokens), np.uint8)
    window_of[at] = np.arange(len(owner), dtype=np.int32)[:, None]
    position[at] = np.arange(size, dtype=np.uint8)
    hashes = mix(mix(records["hash"][owner], seed) + starts.astype(np.uint64), 1)
    numbers = np.arange(len(owner), dtype=np.uint32) + np.uint32(first_window)
    splits = records["split"][owner].astype(np.int8)
    near = background.offer(window_keys(mix(hashes, 2)), numbers)
    return Chunk(tokens, window_of, position, numbers, hashes, splits, near)
