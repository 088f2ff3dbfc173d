"""The windows that explanations are judged on: positives by decile, negatives by source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import split_addresses
from autointerp.examples.gathered import Gathered, gather
from autointerp.examples.overlap import Tokens
from autointerp.examples.positives import Chosen, Positives, positives_of
from autointerp.examples.semantic import semantic
from autointerp.examples.store import ExampleStore
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

NEGATIVES = 50  # a source
FEWEST_NEGATIVES = 10
_ITEM = partial(tuple.__new__, Item)  # twice as fast as calling the class
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


class _Plan(NamedTuple):
    """A labelled set before its windows are built."""

    chosen: dict[Source, Chosen]
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
    gathered = gather(store, split, shown)
    positives = positives_of(store, latents, split, gathered)
    plans = [_plan(store, latents[i], gathered, i, active) for i, active in enumerate(positives)]
    built = _items(store, latents, gathered, plans)
    for latent, plan, items in zip(latents, plans, built, strict=True):
        yield LabelledSet(latent, split, items, plan.unavailable, plan.shortage, plan.dropped)


def _plan(
    store: ExampleStore, latent: LatentId, gathered: Gathered, number: int, positives: Positives
) -> _Plan:
    if positives.shortage is not None:
        return _Plan({}, {}, positives.shortage, positives.chosen.dropped)
    chosen: dict[Source, Chosen] = {"activating": positives.chosen}
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


def _negatives(gathered: Gathered, at: NDArray[np.int64], taken: NDArray[np.int64]) -> Chosen:
    """The first windows of a source, in its random order, that are new and not yet taken."""
    at = at[~(gathered.codes[at][:, None] == taken).any(1)]
    repeated = gathered.repeated[at]
    fine = np.flatnonzero(~repeated)[:NEGATIVES]
    reached = fine[-1] if len(fine) == NEGATIVES else len(at)
    return Chosen(at[fine], [None] * len(fine), int(np.count_nonzero(repeated[:reached])))


def _items(
    store: ExampleStore, latents: list[LatentId], gathered: Gathered, plans: list[_Plan]
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
