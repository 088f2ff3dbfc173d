"""The torch work of a run in a process of its own: loads models and answers lots of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.config import RunConfig
from autointerp.examples import harvest
from autointerp.examples.activity import Active, Question, activity
from autointerp.examples.contrast import Negatives
from autointerp.examples.negatives import find_negatives
from autointerp.examples.options import Attached
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError, LatentId
from autointerp.latents.shards import Shard
from autointerp.pipeline import building
from autointerp.pipeline.workshop import Sketch
from autointerp.subject.base_lm import Continuation, LocalLM
from autointerp.subject.embedder import Embedder
from autointerp.subject.generation import Ask, Engine, open_engine
from autointerp.subject.model import Subject
from autointerp.subject.probe_cache import Probe
from autointerp.subject.probe_worker import Measured, Prober


class Station:
    """Does a run's torch work; every model is loaded when it is first needed.

    One call at a time. Nothing but what is asked for depends on what was asked before, so that
    another station can take its place.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._lm = cache(self._load_lm)
        self._engine: Engine | None = None

    @cached_property
    def _subject(self) -> Subject:
        return building.build_subject(self._config)

    @cached_property
    def _attached(self) -> Mapping[str, Attached]:
        return building.attach(self._config, self._subject, building.build_coders(self._config))

    @cached_property
    def _prober(self) -> Prober:
        coders = {name: (a.coder, a.hook) for name, a in self._attached.items()}
        return Prober(self._subject, coders)

    @cached_property
    def _embedder(self) -> Embedder:
        return building.build_embedder(self._config)

    def sketch(self) -> Sketch:
        places = {name: (a.hook, a.target) for name, a in self._attached.items()}
        return Sketch(self._subject.outline(), places)

    def collect(self, force: bool, part: tuple[Path, Shard | None]) -> None:
        """Collect the examples of a shard of the corpus, or of all of it, into a directory,
        unless that was done.

        Raises:
            AutointerpError: as ``harvest.collect`` does, or if the directory is not to be seen.
        """
        directory, shard = part
        if not directory.parent.is_dir():
            raise AutointerpError(
                f"a worker does not see {directory.parent}; set run.directory to a path that all"
                " nodes of the cluster share"
            )
        harvest.collect(
            self._subject,
            self._attached,
            building.corpus_options(self._config),
            building.example_options(self._config),
            directory,
            seed=self._config.run.seed,
            force=force,
            shard=shard,
        )

    def negatives(self, directory: Path, latents: Sequence[LatentId]) -> Negatives:
        """The hard negatives of latents, from the store in ``directory``."""
        return find_negatives(_store(directory), self._subject, self._attached, latents)

    def activity(self, directory: Path, lot: Sequence[Question]) -> list[Active]:
        """Which latents are active in which windows of the store in ``directory``."""
        return activity(_store(directory), self._subject, self._attached, lot)

    def probe(self, lot: Sequence[Probe]) -> Measured:
        return self._prober(lot)

    def steer(self, seed: int, texts: Sequence[NDArray[np.int32]], lot: Sequence[Ask]) -> list[Any]:
        """What an engine with this seed and these texts answers; a run has one of each."""
        if self._engine is None:
            self._engine = open_engine(self._subject, self._attached, texts, seed)
        return self._engine.answer(lot)

    def logprobs(self, name: str | None, lot: Sequence[Continuation]) -> list[float | str]:
        """Of the base language model of that name, else of the subject."""
        return self._lm(name).measure(lot)

    def _load_lm(self, name: str | None) -> LocalLM:
        subject = self._subject if name is None else building.build_base_lm(self._config, name)
        return LocalLM(subject)

    def embed(self, lot: Sequence[str]) -> NDArray[np.float32]:
        return self._embedder(lot)


@cache
def _store(directory: Path) -> ExampleStore:
    return ExampleStore.open(directory)
