"""In which of some windows latents are active: the subject reads those windows once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.draws import addresses, split_addresses
from autointerp.examples.options import Attached
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Batch, HookPoint, Subject

Coders = Mapping[str, Attached | tuple[SparseCoder, HookPoint]]
Progress = Callable[[int, int], None]


def active_in(
    store: ExampleStore,
    subject: Subject,
    coders: Coders,
    latents: list[LatentId],
    wanted: list[NDArray[np.int64]],
    progress: Progress | None,
) -> list[NDArray[np.int64]]:
    """For each latent those of all the windows ``wanted`` in which it is active.

    Windows are given by their addresses; each of the subject's rows that holds some is read once.
    ``progress`` is told (tokens read, tokens to read).
    """
    codes = np.unique(np.concatenate(wanted))
    rows = _rows(store, codes)
    slots = {name: _slots(latents, name, coders[name][0].d_sae) for name in coders}
    slots = {name: slot for name, slot in slots.items() if (slot >= 0).any()}
    hooks = list(dict.fromkeys(coders[name][1] for name in slots))

    def seek(batch: Batch) -> tuple[int, list[NDArray[np.int64]]]:
        positions = _positions(rows, batch, subject.masked, store.window)
        return sum(batch.lengths), [
            _hits(coders[name], slot, codes, batch, positions) for name, slot in slots.items()
        ]

    found: list[NDArray[np.int64]] = []
    total, done = sum(map(len, rows.tokens)), 0
    for tokens, hits in subject.each(rows.tokens, hooks, seek):
        found += hits
        done += tokens
        if progress is not None:
            progress(done, total)
    pairs = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    bounds = np.searchsorted(pairs, np.arange(len(latents) + 1) * len(codes))
    return [codes[pairs[a:b] % len(codes)] for a, b in pairwise(bounds.tolist())]


def _hits(
    attached: Attached | tuple[SparseCoder, HookPoint],
    slot: NDArray[np.int64],
    codes: NDArray[np.int64],
    batch: Batch,
    positions: _Positions,
) -> NDArray[np.int64]:
    """Which latents of a coder are active in which windows, as slot · windows + window."""
    coder, hook = attached[:2]
    active = coder.encode_sparse(batch.states[hook].flatten(0, 1)[positions.flat])
    owners = slot[active.latents.cpu().numpy()]
    windows = positions.codes[active.rows.cpu().numpy()]
    places = np.minimum(np.searchsorted(codes, windows), len(codes) - 1)
    hits = (owners >= 0) & (codes[places] == windows)
    return np.unique(owners[hits] * len(codes) + places[hits])


def _slots(latents: list[LatentId], name: str, width: int) -> NDArray[np.int64]:
    """For each latent of a coder its place in ``latents``, or −1."""
    slots = np.full(width, -1, np.int64)
    for place, latent in enumerate(latents):
        if latent.coder == name:
            slots[latent.index] = place
    return slots


class _Rows(NamedTuple):
    """Rows of the subject, each up to the end of the last window wanted of it."""

    documents: NDArray[np.int64]
    starts: NDArray[np.int64]
    heads: NDArray[np.int64]  # where the document's windows begin
    tokens: list[NDArray[np.int32]]


def _rows(store: ExampleStore, codes: NDArray[np.int64]) -> _Rows:
    documents, starts = split_addresses(codes)
    rows, owner = np.unique(
        addresses(documents, store.row_starts(documents, starts)), return_inverse=True
    )
    ends = np.zeros(len(rows), np.int64)
    np.maximum.at(ends, owner, starts + store.window)
    documents, begins = split_addresses(rows)
    heads = store.documents["head"][documents].astype(np.int64)
    return _Rows(documents, begins, heads, list(_slices(store, documents, begins, ends)))


def _slices(
    store: ExampleStore,
    documents: NDArray[np.int64],
    begins: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> Iterator[NDArray[np.int32]]:
    columns = (documents.tolist(), begins.tolist(), ends.tolist())
    for document, begin, end in zip(*columns, strict=True):
        yield store.tokens(document)[begin:end]


class _Positions(NamedTuple):
    """The positions of a batch that count: where they lie in it, and their windows."""

    flat: NDArray[np.int64]
    codes: NDArray[np.int64]


def _positions(rows: _Rows, batch: Batch, masked: int, window: int) -> _Positions:
    width = next(iter(batch.states.values())).shape[1]
    row, position = np.nonzero(np.arange(width) < np.array(batch.lengths)[:, None])
    at = np.array(batch.rows)[row]
    place = rows.starts[at] + position - rows.heads[at]
    counts = (place >= 0) & (position >= masked)
    row, position, at, place = row[counts], position[counts], at[counts], place[counts]
    starts = rows.heads[at] + place // window * window
    return _Positions(row * width + position, addresses(rows.documents[at], starts))
