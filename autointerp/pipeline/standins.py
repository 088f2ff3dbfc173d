"""Latents of a small corpus that stand for those of a large one: with as many windows to show."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.statistics import derived_generator

TOKENS = 200_000  # of the corpus, that are read for an estimate where a run has no examples yet
PLENTY = 200  # active windows; prompts show no more of any latent
NEAREST = 4  # latents with about as many windows, of which one is drawn


def small_corpus(config: RunConfig) -> RunConfig:
    """The configuration with no more of the corpus than an estimate reads."""
    tokens = min(TOKENS, config.corpus.tokens)
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"tokens": tokens})})


def stand_ins(
    config: RunConfig, store: ExampleStore, latents: Sequence[LatentId]
) -> list[LatentId]:
    """For each latent another of its coder that has as many active windows in ``store`` as the
    latent will have in all of the corpus, no two the same where there are enough; the latent itself
    where the store is of all of the corpus."""
    growth = config.corpus.tokens / max(1, store.token_count)
    if store.token_count < min(TOKENS, config.corpus.tokens) or growth <= 1:
        return list(latents)
    taken: set[LatentId] = set()
    for latent in latents:
        taken.add(_stand_in(config.run.seed, store, latent, growth, taken))
    return sorted(taken)


def _stand_in(
    seed: int, store: ExampleStore, latent: LatentId, growth: float, taken: Container[LatentId]
) -> LatentId:
    counts = store.statistics(latent.coder).window_count.sum(axis=1)  # [width]
    wanted = min(PLENTY, counts[latent.index] * growth)
    order = np.argsort(counts, kind="stable")
    free = [i for i in order.tolist() if LatentId(latent.coder, i) not in taken] or order.tolist()
    first = int(np.searchsorted(counts[free], wanted))
    last = len(free) if wanted >= PLENTY else min(len(free), first + NEAREST)
    first = max(0, min(first, last - NEAREST))  # where none has so many, those that have most
    rng = derived_generator(seed, "stand-in", latent)
    return LatentId(latent.coder, free[int(rng.integers(first, last))])
