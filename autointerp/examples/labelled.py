"""The windows that explanations are judged on: positives by decile, negatives by source."""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import addresses, draw, seed_of, split_addresses
from autointerp.examples.overlap import Candidates, Shown, Tokens, first_of_each
from autointerp.examples.store import ExampleStore
from autointerp.latents import (
    Background,
    Evidence,
    Example,
    Item,
    LabelledSet,
    LatentId,
    Source,
    Split,
)

POSITIVES = 50
NEGATIVES = 50  # a source
DECILES = 10
PER_DOCUMENT = 2
FEWEST_POSITIVES = 10
FEWEST_DOCUMENTS = 5
FEWEST_NEGATIVES = 10
NEGATIVE_SOURCES: tuple[Source, ...] = ("random", "token", "neighbour")


def build_examples(
    store: ExampleStore,
    owner: LatentId,
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    tokens: Tokens,
    activations: NDArray[np.float32],
) -> list[Example]:
    """Windows of a store as examples; ``tokens`` and ``activations`` are [n, window]."""
    left = store.left_tokens(documents, starts)
    padding = np.count_nonzero(left < 0, axis=1)
    lefts = [row[skip:] for row, skip in zip(left, padding.tolist(), strict=True)]
    columns = (documents.tolist(), starts.tolist(), tokens, activations, lefts)
    return list(map(Example, repeat(owner), *columns, repeat(store.vocabulary)))


class _Pool(NamedTuple):
    """The background windows of a split, ready to be drawn from as random negatives."""

    background: Background
    codes: NDArray[np.int64]
    hashed: Candidates
    repeats: NDArray[np.bool_]  # of an EXPLAIN background window


class _Shared:
    """What all latents of a store have in common."""

    def __init__(self, store: ExampleStore) -> None:
        self.background = Shown(store.background("explain").token_ids)
        self.pools = {split: self._pool(store, split) for split in ("select", "test")}

    def _pool(self, store: ExampleStore, split: Split) -> _Pool:
        background = store.background(split)
        codes = addresses(background.documents, background.starts)
        hashed = Candidates.of(background.token_ids, _middles(background.token_ids))
        return _Pool(background, codes, hashed, self.background.repeated_by(hashed))


_OF_STORE: WeakKeyDictionary[ExampleStore, _Shared] = WeakKeyDictionary()


def _shared(store: ExampleStore) -> _Shared:
    found = _OF_STORE.get(store)
    if found is None:
        found = _OF_STORE[store] = _Shared(store)
    return found


def _middles(tokens: Tokens) -> NDArray[np.intp]:
    """An inactive window has no peak; its middle stands for it."""
    return np.full(len(tokens), tokens.shape[1] // 2)


class _Chosen(NamedTuple):
    """Windows of one source that made it into a set."""

    source: Source
    codes: NDArray[np.int64]
    tokens: Tokens
    activations: NDArray[np.float32] | None  # None: inactive throughout
    deciles: list[int] | None
    dropped: int


def labelled_set(
    store: ExampleStore, latent: LatentId, split: Split, shown: Evidence
) -> LabelledSet:
    """The windows of SELECT or TEST that a latent's explanations are judged on.

    Up to 50 positives, the same number from each tenth of the uniform sample by window
    maximum (five windows a tenth at least, so fewer groups where there are fewer than 50);
    then up to 50 negatives of each source, no window twice. Windows that repeat one of
    ``shown`` (its background among them) are left out and counted. With too few positives
    there are no items, and ``shortage`` says why.

    Raises:
        AutointerpError: if the latent is not in the store.
        ValueError: if ``split`` is EXPLAIN.
    """
    if split == "explain":
        raise ValueError("explanations are never judged on the split they were made from")
    seen = _Seen(store, shown)
    positives, shortage = _positives(store, latent, split, seen)
    if shortage is not None:
        return LabelledSet(latent, split, [], {}, shortage, positives.dropped)
    parts, unavailable = [positives], {}
    taken = np.zeros(0, np.int64)
    for source in NEGATIVE_SOURCES:
        part = _negatives(store, latent, split, source, seen, taken)
        parts.append(part)
        taken = np.concatenate([taken, part.codes])
        if len(part.codes) < FEWEST_NEGATIVES:
            unavailable[source] = _reason(store, latent, source, len(part.codes))
    kept = [part for part in parts if part.source not in unavailable]
    return LabelledSet(
        latent, split, _items(store, latent, kept), unavailable, None, sum(p.dropped for p in parts)
    )


def _reason(store: ExampleStore, latent: LatentId, source: str, found: int) -> str:
    if source != "random" and latent not in contrasts(store):
        return "not prepared"
    return f"{found} windows, {FEWEST_NEGATIVES} are needed"


class _Seen:
    """Everything that was shown of one latent, and to all."""

    def __init__(self, store: ExampleStore, shown: Evidence) -> None:
        self.shared = _shared(store)
        windows = [e.token_ids for e in (*shown.top, *shown.sampled, *shown.token_matched)]
        tokens = np.concatenate(windows) if windows else np.zeros(0, np.int32)
        self.own = Shown(tokens.reshape(-1, store.window))

    def repeated_by(self, tokens: Tokens, peaks: NDArray[np.intp]) -> NDArray[np.bool_]:
        hashed = Candidates.of(tokens, peaks)
        return self.own.repeated_by(hashed) | self.shared.background.repeated_by(hashed)


def _positives(
    store: ExampleStore, latent: LatentId, split: Split, seen: _Seen
) -> tuple[_Chosen, str | None]:
    windows = store.windows(latent, split, "sampled")
    tokens = store.window_tokens(windows.documents, windows.starts)
    peaks = windows.activations.argmax(1) if len(windows) else np.zeros(0, np.intp)
    repeated = seen.repeated_by(tokens, peaks)
    dropped = int(np.count_nonzero(repeated))
    at = np.flatnonzero(~repeated)
    codes = addresses(windows.documents, windows.starts)
    at = at[draw(seed_of(store.seed, latent, f"{split} positives"), codes[at])]
    at = at[first_of_each(tokens[at], peaks[at])]
    at = at[_rank_within(windows.documents[at]) < PER_DOCUMENT]
    documents = len(set(windows.documents[at].tolist()))
    shortage = _shortage(len(at), documents, split)
    deciles: list[int] = []
    if shortage is None:
        at, deciles = _by_decile(at, windows.maxima)
    chosen = _Chosen("activating", codes[at], tokens[at], windows.activations[at], deciles, dropped)
    return chosen, shortage


def _shortage(windows: int, documents: int, split: Split) -> str | None:
    if windows >= FEWEST_POSITIVES and documents >= FEWEST_DOCUMENTS:
        return None
    return (
        f"{windows} distinct active windows in {documents} documents of {split.upper()};"
        f" {FEWEST_POSITIVES} in {FEWEST_DOCUMENTS} are needed"
    )


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.intp]:
    """How many equal entries come before each entry."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    rank = np.empty(len(groups), np.intp)
    rank[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return rank


def _by_decile(
    at: NDArray[np.intp], maxima: NDArray[np.float32]
) -> tuple[NDArray[np.intp], list[int]]:
    """Of windows in random order, the same number of each equal-count group by maximum.

    Returns the windows by group, weakest first, and their groups.
    """
    count = len(at)
    groups = min(DECILES, count // 5)
    ascending = np.argsort(maxima[at], kind="stable")
    bounds = np.arange(groups + 1) * count // groups
    group = np.empty(count, np.int64)
    group[ascending] = np.repeat(np.arange(groups), np.diff(bounds))
    each = min(count // groups, POSITIVES // groups)
    kept = np.flatnonzero(_rank_within(group) < each)
    kept = kept[np.argsort(group[kept], kind="stable")]
    return at[kept], group[kept].tolist()


def _negatives(
    store: ExampleStore,
    latent: LatentId,
    split: Split,
    source: Source,
    seen: _Seen,
    taken: NDArray[np.int64],
) -> _Chosen:
    """The first windows of a source, in its random order, that are new and not yet taken."""
    if source == "random":
        pool = seen.shared.pools[split]
        idle = np.flatnonzero(store.background_maxima(latent, split) == 0)
        at = idle[draw(seed_of(store.seed, latent, f"{split} random"), pool.codes[idle])]
        # Nearly always enough; the whole pool is looked at only if many of these repeat.
        for reach in (NEGATIVES + NEGATIVES // 4, len(at)):
            some = at[:reach]
            repeated = pool.repeats[some] | seen.own.repeated_by(pool.hashed.take(some))
            if np.count_nonzero(~repeated) >= NEGATIVES or reach >= len(at):
                break
        codes, tokens = pool.codes[some], pool.background.token_ids[some]
    else:
        codes = contrasts(store).windows(latent, (split, source))
        codes = codes[~(codes[:, None] == taken).any(1)]
        tokens = store.window_tokens(*split_addresses(codes))
        repeated = seen.repeated_by(tokens, _middles(tokens))
    fine = np.flatnonzero(~repeated)[:NEGATIVES]
    reached = fine[-1] if len(fine) == NEGATIVES else len(codes)
    dropped = int(np.count_nonzero(repeated[:reached]))
    return _Chosen(source, codes[fine], tokens[fine], None, None, dropped)


def _items(store: ExampleStore, latent: LatentId, parts: list[_Chosen]) -> list[Item]:
    tokens = np.concatenate([part.tokens for part in parts])
    activations = np.zeros(tokens.shape, np.float32)
    documents, starts = split_addresses(np.concatenate([part.codes for part in parts]))
    sources: list[Source] = []
    deciles: list[int | None] = []
    for part in parts:
        if part.activations is not None:
            activations[: len(part.codes)] = part.activations
        sources += [part.source] * len(part.codes)
        deciles += part.deciles or [None] * len(part.codes)
    truths = [source == "activating" for source in sources]
    examples = build_examples(store, latent, documents, starts, tokens, activations)
    return list(map(Item, examples, truths, sources, deciles))
