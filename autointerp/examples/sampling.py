"""What an explainer sees of a latent, and the windows that its explanation is judged on."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import split_addresses
from autointerp.examples.labelled import build_examples, labelled_set, labelled_sets
from autointerp.examples.negatives import prepare
from autointerp.examples.overlap import first_of_each, owned, span_hashes
from autointerp.examples.pools import codes_of
from autointerp.examples.store import ExampleStore
from autointerp.latents import Evidence, LabelledSet, LatentId, Split, Statistics

__all__ = [
    "SetBuilder",
    "evidence",
    "evidences",
    "labelled_set",
    "labelled_sets",
    "prepare",
    "spare_collector",
]

BLOCK = 32  # latents that are well built together
TOKEN_MATCHED = 20
TOP_TOKENS = 10
_QUANTILES = np.linspace(0, 1, 11)

T = TypeVar("T")


def evidence(store: ExampleStore, latent: LatentId) -> Evidence:
    """Everything an explainer may see of a latent; EXPLAIN split only.

    Without :func:`prepare`, ``token_matched`` and ``logit_lens`` are empty. A dead latent has
    no windows.

    Raises:
        AutointerpError: if the latent is not in the store.
    """
    return evidences(store, [latent])[0]


def evidences(store: ExampleStore, latents: Sequence[LatentId]) -> list[Evidence]:
    """:func:`evidence` of several latents, in their order, much cheaper than one by one."""
    found: dict[LatentId, Evidence] = {}
    for coder in dict.fromkeys(latent.coder for latent in latents):
        mine = [latent for latent in latents if latent.coder == coder]
        found.update(zip(mine, _of_one_coder(store, mine), strict=True))
    return [found[latent] for latent in latents]


def _of_one_coder(store: ExampleStore, latents: list[LatentId]) -> Iterator[Evidence]:
    prepared = contrasts(store)
    top, top_bounds = store.windows_of(latents, "explain", "top")
    sampled, sampled_bounds = store.windows_of(latents, "explain", "sampled")
    matched = [prepared.windows(i, ("explain", "token"))[:TOKEN_MATCHED] for i in latents]
    parts = [np.diff(top_bounds), np.diff(sampled_bounds), np.array([len(m) for m in matched])]
    owners = np.concatenate([np.repeat(np.arange(len(latents)), counts) for counts in parts])
    codes = np.concatenate([codes_of(top), codes_of(sampled), *matched])
    documents, starts = split_addresses(codes)
    tokens = store.window_tokens(documents, starts)
    active = len(top) + len(sampled)
    activations = np.zeros(tokens.shape, np.float32)
    activations[: len(top)] = top.activations
    activations[len(top) : active] = sampled.activations
    peaks = np.zeros(len(tokens), np.intp)
    peaks[:active] = np.concatenate([top.peaks, sampled.peaks])
    spans = owned(span_hashes(tokens[: len(top)], peaks[: len(top)]), owners[: len(top)])
    distinct = first_of_each(spans)
    ascending = np.argsort(sampled.maxima, kind="stable") + len(top)
    order = np.concatenate([distinct, ascending, np.arange(active, len(tokens))])
    order = order[np.argsort(owners[order], kind="stable")]
    peak_tokens = tokens[np.arange(len(tokens)), peaks][order]
    shown_top = np.bincount(owners[distinct], minlength=len(latents))
    bounds = np.searchsorted(owners[order], np.arange(len(latents) + 1))
    activations = activations[order]
    maxima = activations[np.arange(len(order)), peaks[order]]
    built = build_examples(
        store, latents, bounds, documents[order], starts[order], tokens[order], activations
    )
    background = store.background("explain")
    background_maxima = store.background_maxima_of(latents, "explain")
    for i, (latent, examples) in enumerate(zip(latents, built, strict=True)):
        middle = int(shown_top[i])
        end = middle + int(parts[1][i])
        part = slice(bounds[i] + middle, bounds[i] + end)
        yield Evidence(
            latent=latent,
            statistics=_statistics(store, latent, maxima[part], peak_tokens[part]),
            top=examples[:middle],
            sampled=examples[middle:end],
            token_matched=examples[end:],
            background=background,
            background_maxima=background_maxima[i],
            logit_lens=[store.vocabulary[i] for i in prepared.logit_lens(latent)],
        )


def _statistics(
    store: ExampleStore, latent: LatentId, maxima: NDArray[np.float32], at_peaks: NDArray[np.int32]
) -> Statistics:
    """``maxima``, ascending, and the tokens at the peaks of the latent's sampled windows."""
    counts = store.statistics(latent.coder)
    firing = int(counts.firing_count[latent.index])
    commonest = Counter(at_peaks.tolist()).most_common(TOP_TOKENS)
    return Statistics(
        firing_count=firing,
        density=firing / max(1, counts.tokens),
        maximum=float(counts.maximum[latent.index]),
        mean=float(counts.sum[latent.index]) / max(1, firing),
        quantiles=_quantiles(maxima),
        top_tokens=[(store.vocabulary[token], count) for token, count in commonest],
    )


def _quantiles(ascending: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linearly interpolated quantiles at 0, .1, …, 1; zeros if there is no value."""
    if not len(ascending):
        return np.zeros(11, np.float32)
    at = _QUANTILES * (len(ascending) - 1)
    return np.interp(at, np.arange(len(ascending)), ascending).astype(np.float32)


def spare_collector() -> None:
    """Keep the collector of garbage from costing a third of the time in which sets are built.

    What the libraries hold lives as long as the process and need not be walked; and the
    hundreds of small tuples of a latent, none of them in a cycle, are no reason to collect.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


class SetBuilder:
    """Evidence and one split's labelled sets of many latents, built a block at a time; the sets
    when one of a block is first asked for.

    Latents are best taken in the order in which they are expected; what was built of a latent is
    let go as it is taken.
    """

    def __init__(self, store: ExampleStore, split: Split, latents: Iterable[LatentId] = ()) -> None:
        self._store = store
        self._split: Split = split
        self._waiting = dict.fromkeys(latents)
        self._built: dict[LatentId, tuple[Evidence, _Sets]] = {}

    def ahead(self, items: Iterable[T], latent_of: Callable[[T], LatentId]) -> Iterator[T]:
        """The items, each block's latents being expected before the first of it is handed on."""
        rest = iter(items)
        while block := list(islice(rest, BLOCK)):
            self._waiting.update(dict.fromkeys(map(latent_of, block)))
            yield from block

    def pass_over(self, latent: LatentId) -> None:
        """Do not expect the latent any more."""
        self._waiting.pop(latent, None)
        self._built.pop(latent, None)

    def take(self, latent: LatentId) -> tuple[Evidence, Callable[[], LabelledSet]]:
        """What an explainer may see of the latent, and what gives the windows to judge it on.

        Raises:
            AutointerpError: if the latent is not in the store.
        """
        if latent not in self._built:
            self._waiting.pop(latent, None)
            block = [latent, *islice(self._waiting, BLOCK - 1)]
            for other in block[1:]:
                del self._waiting[other]
            shown = evidences(self._store, block)
            sets = _Sets(self._store, self._split, shown)
            self._built.update((e.latent, (e, sets)) for e in shown)
        evidence, sets = self._built.pop(latent)
        return evidence, cache(partial(sets.take, latent))


class _Sets:
    """The labelled sets of a block, all built as the first is taken."""

    def __init__(self, store: ExampleStore, split: Split, shown: Sequence[Evidence]) -> None:
        self._store = store
        self._split: Split = split
        self._shown = shown
        self._built: dict[LatentId, LabelledSet] = {}

    def take(self, latent: LatentId) -> LabelledSet:
        if self._shown:
            built = labelled_sets(self._store, self._split, self._shown)
            self._built = {found.latent: found for found in built}
            self._shown = ()
        return self._built.pop(latent)
