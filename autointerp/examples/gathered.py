"""All windows that may enter the labelled sets of some latents, fetched and compared at once."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import draw_each, seed_of, split_addresses
from autointerp.examples.overlap import Candidates, Hashes, Owners, Shown, Tokens, span_hashes
from autointerp.examples.pools import codes_of, middles, pools
from autointerp.examples.semantic import semantic
from autointerp.examples.store import ExampleStore, Windows
from autointerp.latents import Evidence, LatentId, Source, Split

NEGATIVE_SOURCES: tuple[Source, ...] = ("random", "token", "neighbour")  # semantic: if embedded
RANDOM_DRAWN = 75  # half as many again as a set takes


class Gathered(NamedTuple):
    """All windows that may enter the sets of some latents of one coder: the active ones, by
    latent, then those of each latent's negative sources."""

    active: Windows
    bounds: NDArray[np.int64]  # [latents + 1], of the active ones
    negatives: list[NDArray[np.int64]]  # where each latent's and source's windows are
    codes: NDArray[np.int64]  # [n] addresses
    tokens: Tokens  # [n, window]
    spans: Hashes  # [active], of the tokens around the peak
    repeated: NDArray[np.bool_]  # [n], of something shown
    sources: tuple[Source, ...]  # of the negatives


def gather(store: ExampleStore, split: Split, shown: list[Evidence]) -> Gathered:
    latents = [e.latent for e in shown]
    sources = NEGATIVE_SOURCES if semantic(store) is None else (*NEGATIVE_SOURCES, "semantic")
    active, bounds = store.windows_of(latents, split, "sampled")
    negatives = list(_candidates(store, latents, split))
    counts = [len(part) for part in negatives]
    codes = np.concatenate([codes_of(active), *negatives])
    owners = np.concatenate(
        [
            np.repeat(np.arange(len(latents)), np.diff(bounds)),
            np.repeat(np.arange(len(negatives)) // len(sources), counts),
        ]
    )
    tokens = store.window_tokens(*split_addresses(codes))
    peaks = middles(tokens)
    peaks[: len(active)] = active.peaks
    shared = pools(store)
    at = shared.places(codes, split)
    at[: len(active)] = -1  # in the pool its middle was hashed, here its peak counts
    known, fresh = np.flatnonzero(at >= 0), np.flatnonzero(at < 0)
    hashed = Candidates.of(tokens[fresh], peaks[fresh])
    repeated = np.empty(len(codes), bool)
    repeated[fresh] = shared.shown.repeated_by(hashed)
    repeated[known] = shared.repeated[split][at[known]]
    mine = Shown(*_shown_tokens(shown, store.window))
    order = np.concatenate([fresh, known])
    all_hashed = hashed + shared.hashed[split].take(at[known])
    repeated[order] |= mine.repeated_by(all_hashed, owners[order])
    places = np.split(np.arange(len(active), len(codes)), np.cumsum(counts)[:-1])
    spans = span_hashes(tokens[: len(active)], peaks[: len(active)])
    return Gathered(active, bounds, places, codes, tokens, spans, repeated, sources)


def _candidates(
    store: ExampleStore, latents: list[LatentId], split: Split
) -> Iterator[NDArray[np.int64]]:
    """Addresses of windows that may be a latent's negatives: by latent, each of its sources.

    ``random`` are background windows in which it is inactive: half as many again as are needed,
    since some repeat what was shown.
    """
    prepared, codes = contrasts(store), pools(store).codes[split]
    embedded = semantic(store)
    seeds = [seed_of(store.seed, latent, f"{split} random") for latent in latents]
    inactive = store.background_maxima_of(latents, split) == 0
    drawn = draw_each(seeds, codes, inactive, RANDOM_DRAWN)
    for latent, at in zip(latents, drawn, strict=True):
        yield codes[at]
        for source in NEGATIVE_SOURCES[1:]:
            yield prepared.windows(latent, (split, source))
        if embedded is not None:
            yield embedded.windows(latent, (split, "semantic"))


def _shown_tokens(shown: list[Evidence], window: int) -> tuple[Tokens, Owners]:
    """All windows shown, [m, window], and the number of the evidence that holds each."""
    parts = [np.zeros((0, window), np.int32)]
    owners = [0]
    for number, e in enumerate(shown):
        blocks = dict.fromkeys(map(itemgetter(0), (*e.top, *e.sampled, *e.token_matched)))
        parts += [block.token_ids for block in blocks]
        owners += [number] * len(blocks)
    return np.concatenate(parts), np.repeat(owners, [len(part) for part in parts])
