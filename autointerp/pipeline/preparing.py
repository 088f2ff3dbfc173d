"""What latents need beside their examples before they are explained and scored: negatives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from autointerp.examples.contrast import chunks_of, contrasts, open_contrasts
from autointerp.examples.negatives import CHUNK
from autointerp.examples.sampling import prepare
from autointerp.examples.semantic import prepare_semantic
from autointerp.examples.store import ExampleStore
from autointerp.latents import LatentId
from autointerp.pipeline import building
from autointerp.pipeline.session import Session
from autointerp.pipeline.shards import PREPARED
from autointerp.pipeline.spreading import prepare_by_workers
from autointerp.subject.embedder import Embed


def get_ready(s: Session, store: ExampleStore, latents: Sequence[LatentId]) -> None:
    """Find the hard negatives of latents that have none yet; a shard, which only reads the store,
    keeps those of its own latents, and of those read with them, to itself."""
    folder = s.path / PREPARED if s.part else None
    mine = s.own(latents) if s.part else None
    if s.config.examples.semantic:
        identity = building.embedder_identity(s.config)
        progress = partial(s.observe, "embed")
        prepare_semantic(store, lambda: _embedder(s), identity, latents, progress, mine, folder)
    prepared = open_contrasts(store, folder) if folder else contrasts(store)
    if all(latent in prepared for latent in s.own(latents)):
        return
    s.enter("prepare")
    told = partial(s.observe, "prepare")
    if s.config.engine.kind == "ray":
        chunks = chunks_of(prepared, latents, CHUNK, mine)
        s.runner.run(prepare_by_workers(s.workshop, store, prepared, chunks, told))
    else:
        prepare(store, s.subject, s.attached, list(latents), told, mine)


def _embedder(s: Session) -> Embed:
    s.enter("embed")
    return s.embedder()
