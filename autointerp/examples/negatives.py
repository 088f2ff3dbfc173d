"""Find windows that look as if a latent should fire in them, and in which it does not.

Two sources: windows that hold the tokens the latent peaks on (``token``), and windows in which
a latent like it is active (``neighbour``). The background sample gives them for nothing; where
it has too few, further candidates are read by the subject once, all latents' together, and
those in which the latent is active are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import (
    GROUPS,
    Group,
    Negatives,
    chunks_of,
    contrasts,
    joined,
)
from autointerp.examples.draws import addresses, draw, race, seed_of, split_addresses
from autointerp.examples.neighbours import neighbours
from autointerp.examples.options import Attached
from autointerp.examples.store import ExampleStore
from autointerp.latents import SPLITS, LatentId, Split
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Batch, HookPoint, Subject

Coders = Mapping[str, Attached | tuple[SparseCoder, HookPoint]]
Progress = Callable[[int, int], None]

CHUNK = 1024  # latents prepared and saved at once
WANTED: Mapping[Split, int] = {"explain": 24, "select": 32, "test": 64}
# Many candidates hold the latent's token because it does fire on it.
READ_PER_MISSING = 2
PEAK_TOKENS = 16
PEAK_SHARE = 0.8
FROM_NEIGHBOUR = 8  # windows read of each neighbour
LENS_TOKENS = 20


class _Candidates(NamedTuple):
    """Addresses for one latent and group: known to be inactive, and to be read."""

    known: NDArray[np.int64]
    unread: NDArray[np.int64]


def prepare(
    store: ExampleStore,
    subject: Subject,
    coders: Coders,
    latents: Sequence[LatentId],
    progress: Progress | None = None,
    only: Collection[LatentId] | None = None,
) -> None:
    """Find and save the hard negatives and logit-lens tokens of these latents.

    Latents that were prepared before cost nothing, nor do chunks of them with none of ``only``;
    an interrupted call keeps what it finished.
    ``progress`` is told (tokens read, tokens to read) for each chunk of latents.

    Raises:
        AutointerpError: if a latent is not in the store.
        KeyError: if ``coders`` lacks a latent's coder.
    """
    prepared = contrasts(store)
    finder = _Finder(store)
    for chunk in chunks_of(prepared, latents, CHUNK, only):
        prepared.add(_found(finder, subject, coders, chunk, progress))


def find_negatives(
    store: ExampleStore, subject: Subject, coders: Coders, latents: Sequence[LatentId]
) -> Negatives:
    """What :func:`prepare` saves of one chunk of latents."""
    return _found(_Finder(store), subject, coders, list(latents), None)


def _found(
    finder: _Finder,
    subject: Subject,
    coders: Coders,
    latents: list[LatentId],
    progress: Progress | None,
) -> Negatives:
    near = _all_neighbours(finder.store, coders, latents)
    plans = [finder.candidates(latent, near[latent]) for latent in latents]
    wanted = [
        np.unique(np.concatenate([candidates.unread for candidates in plan])) for plan in plans
    ]
    active = _read(finder.store, subject, coders, latents, wanted, progress)
    chosen = [
        [_first_inactive(c, found, group) for c, group in zip(plan, GROUPS, strict=True)]
        for plan, found in zip(plans, active, strict=True)
    ]
    lenses = [_logit_lens(subject, coders[latent.coder][0], latent.index) for latent in latents]
    return joined(latents, chosen, np.array(lenses, np.int32))


def _first_inactive(
    candidates: _Candidates, active: NDArray[np.int64], group: Group
) -> NDArray[np.int64]:
    fine = candidates.unread[~np.isin(candidates.unread, active)]
    return np.concatenate([candidates.known, fine])[: WANTED[group[0]]]


def _all_neighbours(
    store: ExampleStore, coders: Coders, latents: list[LatentId]
) -> dict[LatentId, NDArray[np.int64]]:
    found: dict[LatentId, NDArray[np.int64]] = {}
    for name in dict.fromkeys(latent.coder for latent in latents):
        mine = [latent for latent in latents if latent.coder == name]
        indices = [latent.index for latent in mine]
        found.update(zip(mine, neighbours(store, name, coders[name][0], indices), strict=True))
    return found


def _logit_lens(subject: Subject, coder: SparseCoder, latent: int) -> list[int]:
    """The tokens whose unembedding lies most along the latent's decoder direction; −1s if there
    is no unembedding of its width."""
    unembedding = subject.model.get_output_embeddings()
    direction = coder.decoder_directions()[latent].float()
    if unembedding is None or unembedding.weight.shape[1] != len(direction):
        return [-1] * LENS_TOKENS
    weight = unembedding.weight
    logits = weight @ direction.to(weight.device, weight.dtype)
    best: list[int] = logits.float().topk(min(LENS_TOKENS, len(logits))).indices.tolist()
    return best + [-1] * (LENS_TOKENS - len(best))


class _Pool(NamedTuple):
    """The background windows of a split, and in how many of them each token occurs."""

    token_ids: NDArray[np.int32]  # [n, window]
    codes: NDArray[np.int64]  # [n]
    frequency: NDArray[np.int64]  # [vocabulary]


class _Finder:
    """Looks for candidates in what the harvest kept."""

    def __init__(self, store: ExampleStore) -> None:
        self.store = store
        self.pools = {split: self._pool(split) for split in SPLITS}

    def _pool(self, split: Split) -> _Pool:
        background = self.store.background(split)
        ids = np.sort(background.token_ids, axis=1)
        first = np.ones(ids.shape, bool)
        first[:, 1:] = ids[:, 1:] != ids[:, :-1]
        frequency = np.bincount(ids[first], minlength=len(self.store.vocabulary))
        codes = addresses(background.documents, background.starts)
        return _Pool(background.token_ids, codes, frequency)

    def candidates(self, latent: LatentId, near: NDArray[np.int64]) -> list[_Candidates]:
        """One entry a group."""
        tokens, shares = self._peak_tokens(latent)
        return [
            self._by_token(latent, split, tokens, shares)
            if source == "token"
            else self._by_neighbour(latent, split, near)
            for split, source in GROUPS
        ]

    def _peak_tokens(self, latent: LatentId) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The commonest tokens at the peaks of EXPLAIN windows, until they make up most."""
        windows = self.store.windows(latent, "explain", "sampled")
        if not len(windows):
            return np.zeros(0, np.int32), np.zeros(0)
        ids = self.store.window_tokens(windows.documents, windows.starts)
        peaks = ids[np.arange(len(ids)), windows.peaks]
        tokens, counts = np.unique(peaks, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shares = counts[order] / len(peaks)
        enough = int(np.searchsorted(np.cumsum(shares), PEAK_SHARE)) + 1
        keep = min(enough, PEAK_TOKENS)
        return tokens[order[:keep]], shares[:keep]

    def _by_token(
        self,
        latent: LatentId,
        split: Split,
        tokens: NDArray[np.int32],
        shares: NDArray[np.float64],
    ) -> _Candidates:
        pool = self.pools[split]
        # A token's windows share its rate, so that a rare peak token is not drowned by a comma.
        rates = np.zeros(len(pool.frequency))
        rates[tokens] = shares / np.maximum(pool.frequency[tokens], 1)
        known = self._known(latent, split, rates[pool.token_ids].max(1, initial=0), "token")
        kept = [addresses(*self.store.token_windows(int(token), split)) for token in tokens]
        return self._candidates(latent, split, "token", known, kept)

    def _by_neighbour(self, latent: LatentId, split: Split, near: NDArray[np.int64]) -> _Candidates:
        rates = np.zeros(len(self.pools[split].codes))
        kept = []
        for index in near.tolist():
            neighbour = LatentId(latent.coder, index)
            active = self.store.background_maxima(neighbour, split) > 0
            rates += active / max(1, int(np.count_nonzero(active)))
            windows = self.store.windows(neighbour, split, "sampled")
            kept.append(addresses(windows.documents, windows.starts)[:FROM_NEIGHBOUR])
        known = self._known(latent, split, rates, "neighbour")
        return self._candidates(latent, split, "neighbour", known, kept)

    def _known(
        self, latent: LatentId, split: Split, rates: NDArray[np.float64], purpose: str
    ) -> NDArray[np.int64]:
        """Background windows of positive rate in which the latent is inactive."""
        idle = self.store.background_maxima(latent, split) == 0
        at = np.flatnonzero(idle & (rates > 0))
        codes = self.pools[split].codes[at]
        order = race(seed_of(self.store.seed, latent, f"{split} {purpose}"), codes, rates[at])
        return codes[order[: WANTED[split]]]

    def _candidates(
        self,
        latent: LatentId,
        split: Split,
        purpose: str,
        known: NDArray[np.int64],
        kept: list[NDArray[np.int64]],
    ) -> _Candidates:
        missing = WANTED[split] - len(known)
        if not missing or not kept:
            return _Candidates(known, np.zeros(0, np.int64))
        codes = np.setdiff1d(np.concatenate(kept), self.pools[split].codes)
        order = draw(seed_of(self.store.seed, latent, f"{split} {purpose} read"), codes)
        return _Candidates(known, codes[order[: READ_PER_MISSING * missing]])


def _read(
    store: ExampleStore,
    subject: Subject,
    coders: Coders,
    latents: list[LatentId],
    wanted: list[NDArray[np.int64]],
    progress: Progress | None,
) -> list[NDArray[np.int64]]:
    """The windows among ``wanted[i]`` and all others' in which latent i is active."""
    codes = np.unique(np.concatenate(wanted))
    rows = _rows(store, codes)
    slots = {name: _slots(latents, name, coders[name][0].d_sae) for name in coders}
    slots = {name: slot for name, slot in slots.items() if (slot >= 0).any()}
    found: list[NDArray[np.int64]] = []
    total, done = sum(map(len, rows.tokens)), 0
    hooks = list(dict.fromkeys(coders[name][1] for name in slots))
    for batch in subject.activations(rows.tokens, hooks):
        positions = _positions(rows, batch, subject.masked, store.window)
        for name, slot in slots.items():
            coder, hook = coders[name][:2]
            states = batch.states[hook].flatten(0, 1)
            active = coder.encode_sparse(states[positions.flat])
            owners = slot[active.latents.cpu().numpy()]
            windows = positions.codes[active.rows.cpu().numpy()]
            places = np.minimum(np.searchsorted(codes, windows), len(codes) - 1)
            hits = (owners >= 0) & (codes[places] == windows)
            found.append(np.unique(owners[hits] * len(codes) + places[hits]))
        done += sum(batch.lengths)
        if progress is not None:
            progress(done, total)
    pairs = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
    bounds = np.searchsorted(pairs, np.arange(len(latents) + 1) * len(codes))
    return [codes[pairs[a:b] % len(codes)] for a, b in pairwise(bounds.tolist())]


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
