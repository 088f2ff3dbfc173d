"""A run's subject and coders at hand: which latents fire on a text, and whose directions are near.

They are loaded when they are first needed, torch among them, and stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from autointerp.config import RunConfig, load_config
from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.fired import Fired, Reading

if TYPE_CHECKING:
    from autointerp.examples.options import Attached
    from autointerp.pipeline.probe import Active
    from autointerp.subject.model import Subject

LONGEST = 20_000  # characters of a text


class LiveRun:
    """Answers from many threads, one at a time: the subject has one device."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = Lock()

    @cached_property
    def _config(self) -> RunConfig:
        path = self._run / directory.CONFIG
        if not path.is_file():
            raise AutointerpError(f"{self._run} has no {directory.CONFIG}, so no subject to ask")
        return load_config(path)

    @cached_property
    def _subject(self) -> Subject:
        from autointerp.pipeline import building

        return building.build_subject(self._config)

    @cached_property
    def _attached(self) -> Mapping[str, Attached]:
        from autointerp.pipeline import building

        coders = building.build_coders(self._config)
        return building.attach(self._config, self._subject, coders)

    def fire(self, text: str) -> Reading:
        """Read a text, in pieces of the context where it is longer, and tell what fires.

        Raises:
            AutointerpError: if the text is empty or too long, or the model or a coder is not here.
        """
        from autointerp.pipeline.probe import active_on

        if len(text) > LONGEST:
            raise AutointerpError(f"the text has {len(text):,} characters; at most {LONGEST:,}")
        with self._lock:
            ids = self._subject.encode_text(text) if text else []
            if not ids:
                raise AutointerpError("there is nothing to read; type a text")
            active = active_on(self._subject, self._attached, ids)
            fired = [f for name, found in active.items() for f in _by_latent(name, found)]
            return Reading([self._subject.vocabulary[i] for i in ids], fired)

    def nearest(self, latent: LatentId, most: int = 10) -> list[tuple[LatentId, float]]:
        """The latents of the same coder with the nearest decoder directions, and their cosines.

        Raises:
            AutointerpError: if the coder is not here, or has no such latent.
        """
        import torch

        with self._lock:
            attached = self._attached.get(latent.coder)
        if attached is None or latent.index >= attached.coder.d_sae:
            raise AutointerpError(f"{latent} is in none of the run's coders")
        with torch.no_grad():
            directions = attached.coder.decoder_directions()
            products = (directions @ directions[latent.index]).float()
            norms = torch.linalg.vector_norm(directions, dim=1).float()
            cosines = products / (norms * norms[latent.index]).clamp_min(1e-12)
            cosines[latent.index] = -2
            best = cosines.topk(min(most, len(cosines) - 1))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(LatentId(latent.coder, index), cosine) for index, cosine in pairs]


def _by_latent(coder: str, active: Active) -> Iterator[Fired]:
    """The latents of a coder that fire; of signed coders what is positive."""
    active = active[active[:, 2] > 0]
    active = active[np.argsort(active[:, 0], kind="stable")]
    latents, firsts = np.unique(active[:, 0], return_index=True)
    for latent, part in zip(latents.tolist(), np.split(active, firsts[1:]), strict=True):
        yield Fired(LatentId(coder, int(latent)), part[:, 1].astype(np.int64), part[:, 2])
