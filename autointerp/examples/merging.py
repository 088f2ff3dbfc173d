"""A finished store, taken into the state of a harvest: how stores are merged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import ranges
from autointerp.examples.reservoir import Entries
from autointerp.examples.state import HarvestState, bare_entries
from autointerp.examples.store import ExampleStore
from autointerp.examples.tally import BACKGROUND, CoderTally
from autointerp.examples.writing import OWNERS_AT_ONCE


def absorb(state: HarvestState, store: ExampleStore) -> None:
    """Add all that a finished store holds to the state, its documents after those there.

    Of shards of one corpus, taken in order, that makes the state of one pass over all of it.
    """
    shift = np.uint32(state.windows)
    records = store.documents.copy()
    records["first_window"] += shift
    state.log.extend(store.directory / "tokens.bin", records)
    windows = np.load(store.directory / "background_windows.npy") + shift
    state.background.offer(np.load(store.directory / "background_keys.npy"), windows)
    offsets = np.load(store.directory / "token_offsets.npy")
    owners = np.repeat(np.arange(state.tokens.owners, dtype=np.int32), np.diff(offsets))
    keys = np.load(store.directory / "token_keys.npy")
    numbers = np.load(store.directory / "token_windows.npy") + shift
    state.tokens.add(bare_entries(owners, keys, numbers))
    folders = {entry["name"]: number for number, entry in enumerate(store.header["coders"])}
    for name, tally in state.tallies.items():
        _absorb_coder(state, name, tally, store, windows, shift)
        _absorb_sums(state, name, tally, store.directory / "coders" / str(folders[name]))
    state.windows += store.header["windows"]


def _absorb_coder(
    state: HarvestState,
    name: str,
    tally: CoderTally,
    store: ExampleStore,
    background: NDArray[np.uint32],
    shift: np.uint32,
) -> None:
    arrays = store.arrays(name)
    tally.firing_count += arrays["firing_count"]
    tally.window_count += arrays["window_count"]
    tally.maximum = np.maximum(tally.maximum, arrays["maximum"])
    added = np.empty(len(arrays["background_windows"]), BACKGROUND)
    added["window"] = background[arrays["background_windows"]]
    added["latent"] = np.repeat(np.arange(tally.width), np.diff(arrays["background_offsets"]))
    added["maximum"] = arrays["background_maxima"]
    tally.background = np.concatenate([tally.background, added])
    offsets = np.asarray(arrays["entry_offsets"])
    for group, reservoir in enumerate(tally.reservoirs):
        for low in range(0, tally.width, OWNERS_AT_ONCE):
            block = offsets[low : low + OWNERS_AT_ONCE]
            reservoir.add(_stored(tally, arrays, block, group, low, shift))
    tally.compact(state.background.numbers)


def _absorb_sums(state: HarvestState, name: str, tally: CoderTally, folder: Path) -> None:
    for part in ("", "_low"):
        tally.activation_sum.add(np.load(folder / f"activation_sum{part}.npy"))
        sums = np.load(folder / f"quality{part}.npy")
        if len(sums):
            state.quality(name, len(sums) - 3).sums.add(sums)


def _stored(
    tally: CoderTally,
    arrays: Mapping[str, Any],
    block: NDArray[np.int64],
    group: int,
    low: int,
    shift: np.uint32,
) -> Entries:
    """One group's entries of a block of latents of a finished store; copies their pairs."""
    counts = block[:, group + 1] - block[:, group]
    at = ranges(block[:, group], counts)
    first = arrays["pair_offsets"][at]
    lengths = arrays["pair_offsets"][at + 1] - first
    pairs = ranges(first, lengths)
    places = tally.log.append(arrays["positions"][pairs], arrays["values"][pairs], lengths)
    owners = np.repeat(np.arange(low, low + len(block), dtype=np.int32), counts)
    windows = arrays["entry_windows"][at] + shift
    return Entries(owners, arrays["entry_keys"][at], windows, places)
