"""Find windows that look as if a latent should fire in them, and in which it does not.

Two sources: windows that hold the tokens the latent peaks on (``token``), and windows in which
a latent like it is active (``neighbour``). The background sample gives them for nothing; where
it has too few, further candidates are read by the subject once, all latents' together, and
those in which the latent is active are left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
from autointerp.examples.draws import addresses, draw, race, seed_of
from autointerp.examples.neighbours import neighbours
from autointerp.examples.peaks import PeakTokens, peak_tokens
from autointerp.examples.reading import Coders, Progress, active_in
from autointerp.examples.store import ExampleStore
from autointerp.latents import SPLITS, LatentId, Split
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Subject

CHUNK = 1024  # latents prepared and saved at once
WANTED: Mapping[Split, int] = {"explain": 24, "select": 32, "test": 64}
# Many candidates hold the latent's token because it does fire on it.
READ_PER_MISSING = 2
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
    ``progress`` is told how many latents of how many are done, those of a chunk as its windows
    are read.

    Raises:
        AutointerpError: if a latent is not in the store.
        KeyError: if ``coders`` lacks a latent's coder.
    """
    prepared = contrasts(store)
    finder = _Finder(store)
    chunks = chunks_of(prepared, latents, CHUNK, only)
    done, total = 0, sum(map(len, chunks))

    def told(read: int, of: int) -> None:
        if progress is not None:
            progress(done + len(chunk) * read // max(1, of), total)

    for chunk in chunks:
        prepared.add(_found(finder, subject, coders, chunk, told))
        done += len(chunk)
        told(0, 1)


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
    active = active_in(finder.store, subject, coders, latents, wanted, progress)
    chosen = [
        [_first_inactive(c, found, group) for c, group in zip(plan, GROUPS, strict=True)]
        for plan, found in zip(plans, active, strict=True)
    ]
    lenses = [_logit_lens(subject, coders[latent.coder][0], latent.index) for latent in latents]
    return joined(latents, chosen, np.array(lenses, np.int32), [near[i] for i in latents])


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

    def _peak_tokens(self, latent: LatentId) -> PeakTokens:
        """Those that the EXPLAIN windows peak on."""
        windows = self.store.windows(latent, "explain", "sampled")
        ids = self.store.window_tokens(windows.documents, windows.starts)
        return peak_tokens(ids[np.arange(len(ids)), windows.peaks])

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
