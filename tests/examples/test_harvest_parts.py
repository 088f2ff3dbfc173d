"""The parts of a harvest by themselves: how documents are cut into rows, and reservoirs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autointerp.examples.documents import Geometry
from autointerp.examples.reservoir import Entries, Reservoir


@given(st.integers(1, 400), st.integers(0, 2**64 - 1), st.integers(1, 40), st.integers(1, 5))
def test_rows_cover_a_document_and_never_cut_a_window(
    length: int, identity: int, window: int, factor: int
) -> None:
    geometry = Geometry.of(window, window * factor + 1)
    head = geometry.head(identity, 0, length)
    rows = geometry.rows(length, head)
    assert [t for low, high in rows for t in range(low, high)] == list(range(length))
    assert max(high - low for low, high in rows) <= geometry.content
    assert geometry.windows(length, head) >= (length >= window)
    for number in range(geometry.windows(length, head)):
        start = head + number * window
        (row,) = [(low, high) for low, high in rows if low <= start < high]
        assert start + window <= row[1]
        assert geometry.row_start(head, start) == row[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50)), max_size=200), st.integers(1, 9))
def test_reservoir_keeps_the_smallest_keys(candidates: list[tuple[int, int]], keep: int) -> None:
    reservoir = Reservoir(5, keep)
    for low in range(0, len(candidates), 17):
        part = candidates[low : low + 17]
        owners = np.array([o for o, _ in part], np.int32)
        keys = np.array([k for _, k in part], np.uint32)
        order = np.arange(low, low + len(part))
        entries = Entries(owners, keys, order.astype(np.uint32), order)
        reservoir.add(entries.take(np.flatnonzero(reservoir.admits(owners, keys))))
        if low % 2:
            reservoir.compact()
    reservoir.compact()
    kept = reservoir.entries(0, 5)
    for owner in range(5):
        expected = sorted((k, i) for i, (o, k) in enumerate(candidates) if o == owner)[:keep]
        mine = kept.owners == owner
        assert list(zip(kept.keys[mine], kept.windows[mine], strict=True)) == expected
