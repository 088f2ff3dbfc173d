"""One coder's part of a finished store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.files import npy, save_array
from autointerp.examples.quality import Quality
from autointerp.examples.reservoir import EMPTY, Entries
from autointerp.examples.store import GROUPS
from autointerp.examples.tally import CoderTally, spans

OWNERS_AT_ONCE = 4096


def write_tally(
    folder: Path,
    tally: CoderTally,
    background_numbers: NDArray[np.uint32],
    quality: Quality | None,
) -> None:
    """Write what a pass found of one coder into ``folder``; ``background_numbers`` are those of
    the background sample's windows."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.stack([r.counts() for r in tally.reservoirs], 1)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    at = np.arange(tally.width)[:, None] * len(GROUPS) + np.arange(len(GROUPS) + 1)
    held = tally.background
    key = held["latent"].astype(np.uint64) << np.uint64(32) | held["window"]
    background = held[np.argsort(key)]
    order = np.argsort(background_numbers)
    slots = order[np.searchsorted(background_numbers, background["window"], sorter=order)]
    arrays = {
        "firing_count": tally.firing_count,
        "activation_sum": tally.activation_sum.high,
        "activation_sum_low": tally.activation_sum.low,
        "maximum": tally.maximum,
        "window_count": tally.window_count,
        "entry_offsets": bounds[at],
        "background_offsets": np.searchsorted(background["latent"], np.arange(tally.width + 1)),
        "background_windows": slots.astype(np.uint32),
        "background_maxima": background["maximum"],
        "quality": quality.sums.high if quality else np.zeros(0),
        "quality_low": quality.sums.low if quality else np.zeros(0),
    }
    for key, array in arrays.items():
        save_array(folder / f"{key}.npy", array)
    _write_entries(folder, tally, int(bounds[-1]))


def _write_entries(folder: Path, tally: CoderTally, total: int) -> None:
    """Write kept windows latent by latent, group by group, each group by key."""
    pairs = tally.log.read()
    live = sum(int(r.lengths[r.keys < EMPTY].sum(dtype=np.int64)) for r in tally.reservoirs)
    shapes = {
        "entry_keys": (np.uint32, total),
        "entry_windows": (np.uint32, total),
        "entry_maxima": (np.float32, total),
        "pair_offsets": (np.int64, total + 1),
        "positions": (np.uint8, live),
        "values": (np.float32, live),
    }
    with ExitStack() as opened:
        write = {
            name: opened.enter_context(npy(folder / f"{name}.npy", dtype, (size,)))
            for name, (dtype, size) in shapes.items()
        }
        write["pair_offsets"](np.zeros(1))
        pair = 0
        for low in range(0, tally.width, OWNERS_AT_ONCE):
            kept = _block(tally, low, low + OWNERS_AT_ONCE)
            counts, at = spans(kept.pairs)
            write["entry_keys"](kept.keys)
            write["entry_windows"](kept.windows)
            write["pair_offsets"](pair + np.cumsum(counts))
            write["positions"](pairs["position"][at])
            values = pairs["value"][at]
            write["values"](values)
            if len(at):  # a kept window has an activation
                starts = np.cumsum(counts) - counts
                write["entry_maxima"](np.maximum.reduceat(values, starts))
            pair += len(at)


def _block(tally: CoderTally, low: int, high: int) -> Entries:
    parts = [reservoir.entries(low, high) for reservoir in tally.reservoirs]
    groups = np.repeat(np.arange(len(parts)), [len(p.owners) for p in parts])
    joined = Entries.join(parts)
    return joined.take(np.lexsort((groups, joined.owners)))
