"""The windows that explanations are judged on: positives by decile, negatives by source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import addresses, draw_each, draws, seed_of, split_addresses
from autointerp.examples.overlap import (
    Candidates,
    Hashes,
    Owners,
    Shown,
    Tokens,
    first_of_each,
    owned,
    span_hashes,
)
from autointerp.examples.pools import codes_of, middles, pools
from autointerp.examples.semantic import semantic
from autointerp.examples.store import ExampleStore, Windows
from autointerp.latents import (
    Evidence,
    Example,
    ExampleBlock,
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
_ITEM = partial(tuple.__new__, Item)  # twice as fast as calling the class
NEGATIVE_SOURCES: tuple[Source, ...] = ("random", "token", "neighbour")  # semantic: if embedded
NO_EMBEDDER = "no embedder"


def build_examples(
    store: ExampleStore,
    owners: Sequence[LatentId],
    bounds: NDArray[np.int64],
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    tokens: Tokens,
    activations: NDArray[np.float32],
) -> list[list[Example]]:
    """Windows of a store as examples, by owner; ``tokens`` and ``activations`` are [n, window],
    and ``bounds`` [owners + 1] tell whose they are."""
    left = store.left_tokens(documents, starts)
    mine = [slice(low, high) for low, high in pairwise(bounds.tolist())]
    return [
        ExampleBlock(
            owner,
            documents[at],
            starts[at],
            tokens[at],
            activations[at],
            left[at],
            store.vocabulary,
        ).examples()
        for owner, at in zip(owners, mine, strict=True)
    ]


class _Gathered(NamedTuple):
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


class _Chosen(NamedTuple):
    """The windows of a source that made it into a set, and how many repeats were passed over."""

    at: NDArray[np.int64]
    deciles: list[int | None]
    dropped: int


class _Positives(NamedTuple):
    """The active windows of a set, and why they are too few if they are."""

    chosen: _Chosen
    shortage: str | None


class _Plan(NamedTuple):
    """A labelled set before its windows are built."""

    chosen: dict[Source, _Chosen]
    unavailable: dict[str, str]
    shortage: str | None
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
        ValueError: if ``split`` is EXPLAIN, or ``shown`` another latent's.
    """
    if latent != shown.latent:
        raise ValueError(f"evidence of {shown.latent} was shown, not of {latent}")
    return labelled_sets(store, split, [shown])[0]


def labelled_sets(
    store: ExampleStore, split: Split, shown: Sequence[Evidence]
) -> list[LabelledSet]:
    """:func:`labelled_set` of several latents, in their order, much cheaper than one by one."""
    if split == "explain":
        raise ValueError("explanations are never judged on the split they were made from")
    found: dict[LatentId, LabelledSet] = {}
    for coder in dict.fromkeys(e.latent.coder for e in shown):
        mine = [e for e in shown if e.latent.coder == coder]
        found.update((made.latent, made) for made in _of_one_coder(store, split, mine))
    return [found[e.latent] for e in shown]


def _of_one_coder(
    store: ExampleStore, split: Split, shown: list[Evidence]
) -> Iterator[LabelledSet]:
    latents = [e.latent for e in shown]
    gathered = _gather(store, split, shown)
    positives = _positives(store, latents, split, gathered)
    plans = [_plan(store, latents[i], gathered, i, active) for i, active in enumerate(positives)]
    built = _items(store, latents, gathered, plans)
    for latent, plan, items in zip(latents, plans, built, strict=True):
        yield LabelledSet(latent, split, items, plan.unavailable, plan.shortage, plan.dropped)


def _plan(
    store: ExampleStore, latent: LatentId, gathered: _Gathered, number: int, positives: _Positives
) -> _Plan:
    if positives.shortage is not None:
        return _Plan({}, {}, positives.shortage, positives.chosen.dropped)
    chosen: dict[Source, _Chosen] = {"activating": positives.chosen}
    unavailable: dict[str, str] = {}
    if "semantic" not in gathered.sources:
        unavailable["semantic"] = NO_EMBEDDER
    dropped = positives.chosen.dropped
    taken = np.zeros(0, np.int64)
    for place, source in enumerate(gathered.sources, number * len(gathered.sources)):
        negatives = _negatives(gathered, gathered.negatives[place], taken)
        dropped += negatives.dropped
        if len(negatives.at) < FEWEST_NEGATIVES:
            unavailable[source] = _reason(store, latent, source, len(negatives.at))
            continue
        chosen[source] = negatives
        taken = np.concatenate([taken, gathered.codes[negatives.at]])
    return _Plan(chosen, unavailable, None, dropped)


def _reason(store: ExampleStore, latent: LatentId, source: Source, found: int) -> str:
    prepared = semantic(store) if source == "semantic" else contrasts(store)
    if source != "random" and (prepared is None or latent not in prepared):
        return "not prepared"
    return f"{found} windows, {FEWEST_NEGATIVES} are needed"


def _gather(store: ExampleStore, split: Split, shown: list[Evidence]) -> _Gathered:
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
    return _Gathered(active, bounds, places, codes, tokens, spans, repeated, sources)


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
    inactive = np.stack([store.background_maxima(latent, split) == 0 for latent in latents])
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


def _positives(
    store: ExampleStore, latents: list[LatentId], split: Split, gathered: _Gathered
) -> Iterator[_Positives]:
    """The active windows of each latent's set; all latents' are chosen together."""
    owner = np.repeat(np.arange(len(latents)), np.diff(gathered.bounds))
    repeated = gathered.repeated[: len(owner)]
    seeds = [seed_of(store.seed, latent, f"{split} positives") for latent in latents]
    at = draws(seeds, gathered.codes[: len(owner)], owner)
    at = at[~repeated[at]]
    at = at[first_of_each(owned(gathered.spans[at], owner[at]))]
    rank = _rank_within(addresses(gathered.active.documents[at], owner[at]))
    documents = np.bincount(owner[at[rank == 0]], minlength=len(latents)).tolist()
    at = at[rank < PER_DOCUMENT]
    windows = np.bincount(owner[at], minlength=len(latents))
    at, deciles = _by_decile(at, owner[at], windows, gathered.active.maxima)
    bounds = np.searchsorted(owner[at], np.arange(len(latents) + 1))
    dropped = np.bincount(owner[repeated], minlength=len(latents)).tolist()
    for number, (low, high) in enumerate(pairwise(bounds.tolist())):
        chosen = _Chosen(at[low:high], deciles[low:high].tolist(), dropped[number])
        yield _Positives(chosen, _shortage(int(windows[number]), documents[number], split))


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
    at: NDArray[np.intp], owner: Owners, counts: NDArray[np.intp], maxima: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Of each latent's windows in random order, the same number of each equal-count group by
    maximum.

    ``counts`` tells how many windows each latent has. Returns the windows by latent and group,
    weakest first, and their groups.
    """
    groups = np.clip(counts // 5, 1, DECILES)
    each = np.minimum(counts, POSITIVES) // groups
    order = np.lexsort((maxima[at], owner))
    rank = np.empty(len(at), np.int64)
    rank[order] = np.arange(len(at)) - (np.cumsum(counts) - counts)[owner[order]]
    group = ((rank + 1) * groups[owner] - 1) // counts[owner]
    kept = np.flatnonzero(_rank_within(owner * DECILES + group) < each[owner])
    kept = kept[np.lexsort((group[kept], owner[kept]))]
    return at[kept], group[kept]


def _negatives(gathered: _Gathered, at: NDArray[np.int64], taken: NDArray[np.int64]) -> _Chosen:
    """The first windows of a source, in its random order, that are new and not yet taken."""
    at = at[~(gathered.codes[at][:, None] == taken).any(1)]
    repeated = gathered.repeated[at]
    fine = np.flatnonzero(~repeated)[:NEGATIVES]
    reached = fine[-1] if len(fine) == NEGATIVES else len(at)
    return _Chosen(at[fine], [None] * len(fine), int(np.count_nonzero(repeated[:reached])))


def _items(
    store: ExampleStore, latents: list[LatentId], gathered: _Gathered, plans: list[_Plan]
) -> Iterator[list[Item]]:
    """The items of each latent's set."""
    parts = [part.at for plan in plans for part in plan.chosen.values()]
    at = np.concatenate([np.zeros(0, np.int64), *parts])
    counts = [sum(len(part.at) for part in plan.chosen.values()) for plan in plans]
    activations = np.zeros((len(at), store.window), np.float32)
    positives = np.flatnonzero(at < len(gathered.active))
    activations[positives] = gathered.active.activations[at[positives]]
    documents, starts = split_addresses(gathered.codes[at])
    bounds = np.cumsum([0, *counts])
    built = build_examples(
        store, latents, bounds, documents, starts, gathered.tokens[at], activations
    )
    for plan, examples in zip(plans, built, strict=True):
        sources: list[Source] = []
        deciles: list[int | None] = []
        for source, part in plan.chosen.items():
            sources += [source] * len(part.at)
            deciles += part.deciles
        truths = [source == "activating" for source in sources]
        yield list(map(_ITEM, zip(examples, truths, sources, deciles, strict=True)))
