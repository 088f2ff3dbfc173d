"""What an explainer sees of a latent, and the windows that its explanation is judged on."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.contrast import contrasts
from autointerp.examples.draws import split_addresses
from autointerp.examples.labelled import build_examples, labelled_set
from autointerp.examples.negatives import prepare
from autointerp.examples.overlap import Tokens, first_of_each, span_hashes
from autointerp.examples.store import ExampleStore, Windows
from autointerp.latents import Evidence, LatentId, Statistics

__all__ = ["evidence", "labelled_set", "prepare"]

TOKEN_MATCHED = 20
TOP_TOKENS = 10
_QUANTILES = np.linspace(0, 1, 11)


def evidence(store: ExampleStore, latent: LatentId) -> Evidence:
    """Everything an explainer may see of a latent; EXPLAIN split only.

    Without :func:`prepare`, ``token_matched`` and ``logit_lens`` are empty. A dead latent has
    no windows.

    Raises:
        AutointerpError: if the latent is not in the store.
    """
    top = store.windows(latent, "explain", "top")
    sampled = store.windows(latent, "explain", "sampled")
    prepared = contrasts(store)
    matched = split_addresses(prepared.windows(latent, ("explain", "token"))[:TOKEN_MATCHED])
    documents = np.concatenate([top.documents, sampled.documents, matched[0]])
    starts = np.concatenate([top.starts, sampled.starts, matched[1]])
    tokens = store.window_tokens(documents, starts)
    activations = np.zeros(tokens.shape, np.float32)
    active = len(top) + len(sampled)
    activations[: len(top)] = top.activations
    activations[len(top) : active] = sampled.activations
    peaks = activations.argmax(1)
    distinct = first_of_each(span_hashes(tokens[: len(top)], peaks[: len(top)]))
    ascending = np.argsort(sampled.maxima, kind="stable") + len(top)
    order = np.concatenate([distinct, ascending, np.arange(active, len(tokens))])
    built = build_examples(
        store, latent, documents[order], starts[order], tokens[order], activations[order]
    )
    shown_top, shown = len(distinct), len(distinct) + len(sampled)
    at_peaks = tokens[np.arange(len(top), active), peaks[len(top) : active]]
    return Evidence(
        latent=latent,
        statistics=_statistics(store, latent, sampled, at_peaks),
        top=built[:shown_top],
        sampled=built[shown_top:shown],
        token_matched=built[shown:],
        background=store.background("explain"),
        background_maxima=store.background_maxima(latent, "explain"),
        logit_lens=[store.vocabulary[i] for i in prepared.logit_lens(latent)],
    )


def _statistics(
    store: ExampleStore, latent: LatentId, sampled: Windows, at_peaks: Tokens
) -> Statistics:
    counts = store.statistics(latent.coder)
    firing = int(counts.firing_count[latent.index])
    commonest = Counter(at_peaks.tolist()).most_common(TOP_TOKENS)
    return Statistics(
        firing_count=firing,
        density=firing / max(1, counts.tokens),
        maximum=float(counts.maximum[latent.index]),
        mean=float(counts.sum[latent.index]) / max(1, firing),
        quantiles=_quantiles(sampled.maxima),
        top_tokens=[(store.vocabulary[token], count) for token, count in commonest],
    )


def _quantiles(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linearly interpolated quantiles at 0, .1, …, 1; zeros if there is no value."""
    if not len(values):
        return np.zeros(11, np.float32)
    positions = np.arange(len(values)) / max(1, len(values) - 1)
    return np.interp(_QUANTILES, positions, np.sort(values)).astype(np.float32)
