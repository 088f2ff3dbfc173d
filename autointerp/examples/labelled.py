"""The windows that explanations are judged on: positives by decile, negatives by source."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import addresses, draw, seed_of, split_addresses
from autointerp.examples.overlap import Candidates, Hashes, Shown, Tokens, first_of_each
from autointerp.examples.store import ExampleStore, Windows
from autointerp.latents import (
    SPLITS,
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
RANDOM_DRAWN = 75
DECILES = 10
PER_DOCUMENT = 2
FEWEST_POSITIVES = 10
FEWEST_DOCUMENTS = 5
FEWEST_NEGATIVES = 10
_FIELDS = {field.name: getattr(Example, field.name).__set__ for field in fields(Example)}
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
    lefts = list(left)
    padding = (left < 0).sum(1)
    for row in np.flatnonzero(padding).tolist():
        lefts[row] = left[row, padding[row] :]
    columns: dict[str, Iterable[object]] = {
        "owner": repeat(owner),
        "document": documents.tolist(),
        "start": starts.tolist(),
        "token_ids": tokens,
        "activations": activations,
        "left_ids": lefts,
        "vocabulary": repeat(store.vocabulary),
    }
    # Field by field: a frozen dataclass's own constructor takes twice as long, and building
    # examples is most of the work of building a set.
    examples = [object.__new__(Example) for _ in lefts]
    for name, fill in _FIELDS.items():
        deque(map(fill, examples, columns[name]), maxlen=0)
    return examples


class _Shared:
    """What all latents of a store have in common, worked out once."""

    def __init__(self, store: ExampleStore) -> None:
        self.shown = Shown(store.background("explain").token_ids)
        self.codes = {split: _codes(store.background(split)) for split in SPLITS}


def _codes(windows: Background | Windows) -> NDArray[np.int64]:
    return addresses(windows.documents, windows.starts)


_OF_STORE: WeakKeyDictionary[ExampleStore, _Shared] = WeakKeyDictionary()


def _shared(store: ExampleStore) -> _Shared:
    found = _OF_STORE.get(store)
    if found is None:
        found = _OF_STORE[store] = _Shared(store)
    return found


class _Gathered(NamedTuple):
    """All windows that may enter a set: active ones first, then each negative source's."""

    active: Windows
    places: dict[Source, NDArray[np.intp]]  # where each source's windows are
    codes: NDArray[np.int64]  # [n] addresses
    tokens: Tokens  # [n, window]
    spans: Hashes  # [n], of the tokens around the peak
    repeated: NDArray[np.bool_]  # [n], of something shown


class _Chosen(NamedTuple):
    """The windows of a source that made it into a set, and how many repeats were passed over."""

    at: NDArray[np.intp]
    deciles: list[int | None]
    dropped: int


def labelled_set(
    store: ExampleStore, latent: LatentId, split: Split, shown: Evidence
) -> LabelledSet:
    """The windows of SELECT or TEST that a latent's explanations are judged on.

    Up to 50 positives, the same number from each tenth of the uniform sample by window
    maximum (with fewer than 50 windows from each of fewer groups, of five or more); at most
    two of a document, and none with the same tokens at its peak as another. Then up to 50
    negatives of each source, no window twice. Windows that repeat one of ``shown`` (its
    background among them) are left out and counted. With too few positives there are no
    items, and ``shortage`` says why.

    Raises:
        AutointerpError: if the latent is not in the store.
        ValueError: if ``split`` is EXPLAIN.
    """
    if split == "explain":
        raise ValueError("explanations are never judged on the split they were made from")
    gathered = _gather(store, latent, split, shown)
    positives, shortage = _positives(store, latent, split, gathered)
    if shortage is not None:
        return LabelledSet(latent, split, [], {}, shortage, positives.dropped)
    chosen: dict[Source, _Chosen] = {"activating": positives}
    unavailable: dict[str, str] = {}
    dropped = positives.dropped
    taken = np.zeros(0, np.int64)
    for source in NEGATIVE_SOURCES:
        negatives = _negatives(gathered, source, taken)
        dropped += negatives.dropped
        if len(negatives.at) < FEWEST_NEGATIVES:
            unavailable[source] = _reason(store, latent, source, len(negatives.at))
            continue
        chosen[source] = negatives
        taken = np.concatenate([taken, gathered.codes[negatives.at]])
    items = _items(store, latent, gathered, chosen)
    return LabelledSet(latent, split, items, unavailable, None, dropped)


def _reason(store: ExampleStore, latent: LatentId, source: Source, found: int) -> str:
    if source != "random" and latent not in contrasts(store):
        return "not prepared"
    return f"{found} windows, {FEWEST_NEGATIVES} are needed"


def _gather(store: ExampleStore, latent: LatentId, split: Split, shown: Evidence) -> _Gathered:
    active = store.windows(latent, split, "sampled")
    prepared = contrasts(store)
    parts: dict[Source, NDArray[np.int64]] = {
        "activating": _codes(active),
        "random": _random(store, latent, split),
        "token": prepared.windows(latent, (split, "token")),
        "neighbour": prepared.windows(latent, (split, "neighbour")),
    }
    codes = np.concatenate(list(parts.values()))
    tokens = store.window_tokens(*split_addresses(codes))
    # An inactive window has no peak; its middle stands for it.
    peaks = np.full(len(codes), store.window // 2)
    peaks[: len(active)] = active.activations.argmax(1)
    hashed = Candidates.of(tokens, peaks)
    repeated = Shown(_shown_tokens(shown, store.window)).repeated_by(hashed)
    repeated |= _shared(store).shown.repeated_by(hashed)
    numbers = iter(np.split(np.arange(len(codes)), np.cumsum([len(p) for p in parts.values()])))
    places = dict(zip(parts, numbers, strict=False))
    return _Gathered(active, places, codes, tokens, hashed.spans, repeated)


def _shown_tokens(shown: Evidence, window: int) -> Tokens:
    windows = [e.token_ids for e in (*shown.top, *shown.sampled, *shown.token_matched)]
    return np.concatenate([np.zeros(0, np.int32), *windows]).reshape(-1, window)


def _random(store: ExampleStore, latent: LatentId, split: Split) -> NDArray[np.int64]:
    """Background windows in which the latent is inactive, in random order: half as many again as
    are needed, since some repeat what was shown."""
    inactive = store.background_maxima(latent, split) == 0
    idle: NDArray[np.int64] = _shared(store).codes[split][inactive]
    return idle[draw(seed_of(store.seed, latent, f"{split} random"), idle, RANDOM_DRAWN)]


def _positives(
    store: ExampleStore, latent: LatentId, split: Split, gathered: _Gathered
) -> tuple[_Chosen, str | None]:
    repeated = gathered.repeated[gathered.places["activating"]]
    at = np.flatnonzero(~repeated)
    at = at[draw(seed_of(store.seed, latent, f"{split} positives"), gathered.codes[at])]
    at = at[first_of_each(gathered.spans[at])]
    documents = gathered.active.documents[at]
    within = _rank_within(documents) < PER_DOCUMENT
    at, documents = at[within], documents[within]
    dropped = int(np.count_nonzero(repeated))
    shortage = _shortage(len(at), len(set(documents.tolist())), split)
    if shortage is not None:
        return _Chosen(at, [], dropped), shortage
    at, deciles = _by_decile(at, gathered.active.maxima)
    return _Chosen(at, deciles, dropped), None


def _shortage(windows: int, documents: int, split: Split) -> str | None:
    if windows >= FEWEST_POSITIVES and documents >= FEWEST_DOCUMENTS:
        return None
    return (
        f"{windows} distinct active windows in {documents} documents of {split.upper()};"
        f" {FEWEST_POSITIVES} in {FEWEST_DOCUMENTS} are needed"
    )


def _rank_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal entries come before each entry."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    return rank


def _by_decile(
    at: NDArray[np.intp], maxima: NDArray[np.float32]
) -> tuple[NDArray[np.intp], list[int | None]]:
    """Of windows in random order, the same number of each equal-count group by maximum.

    Returns the windows by group, weakest first, and their groups.
    """
    count = len(at)
    groups = min(DECILES, count // 5)
    bounds = np.arange(groups + 1) * count // groups
    group = np.empty(count, np.int64)
    group[np.argsort(maxima[at], kind="stable")] = np.repeat(np.arange(groups), np.diff(bounds))
    each = min(count // groups, POSITIVES // groups)
    kept = np.flatnonzero(_rank_within(group) < each)
    kept = kept[np.argsort(group[kept], kind="stable")]
    return at[kept], group[kept].tolist()


def _negatives(gathered: _Gathered, source: Source, taken: NDArray[np.int64]) -> _Chosen:
    """The first windows of a source, in its random order, that are new and not yet taken."""
    at = gathered.places[source]
    at = at[~(gathered.codes[at][:, None] == taken).any(1)]
    repeated = gathered.repeated[at]
    fine = np.flatnonzero(~repeated)[:NEGATIVES]
    reached = fine[-1] if len(fine) == NEGATIVES else len(at)
    return _Chosen(at[fine], [None] * len(fine), int(np.count_nonzero(repeated[:reached])))


def _items(
    store: ExampleStore, latent: LatentId, gathered: _Gathered, chosen: dict[Source, _Chosen]
) -> list[Item]:
    at = np.concatenate([part.at for part in chosen.values()])
    activations = np.zeros((len(at), store.window), np.float32)
    positives = chosen["activating"].at
    activations[: len(positives)] = gathered.active.activations[positives]
    documents, starts = split_addresses(gathered.codes[at])
    examples = build_examples(store, latent, documents, starts, gathered.tokens[at], activations)
    sources = [source for source, part in chosen.items() for _ in part.deciles]
    deciles = [decile for part in chosen.values() for decile in part.deciles]
    truths = [source == "activating" for source in sources]
    return list(map(Item, examples, truths, sources, deciles))
