"""The embedder and the base language models of a stage, loaded when a kind first needs them."""

from __future__ import annotations

from functools import cached_property

from autointerp.config import RunConfig
from autointerp.pipeline.building import build_base_lm, build_embedder
from autointerp.pipeline.workshop import Workshop
from autointerp.subject.base_lm import LocalLM, LogprobQueue
from autointerp.subject.embedder import EmbeddingQueue
from autointerp.subject.model import Subject


class TextModels:
    """Lends models that read texts; close with :meth:`aclose` at the end of the stage.

    The run's subject is the base language model where no other is named.
    """

    def __init__(self, config: RunConfig, workshop: Workshop) -> None:
        self._config, self._workshop = config, workshop
        self._base_lms: dict[str | None, LogprobQueue] = {}
        self._embedding = False

    @cached_property
    def embedder(self) -> EmbeddingQueue:
        self._embedding = True
        workers = self._workshop.workers("embed")
        return EmbeddingQueue(*(workers or [build_embedder(self._config)]))

    def base_lm(self, name: str | None) -> LogprobQueue:
        """The local model of that name, else the subject; the same object for the same name.

        Raises:
            AutointerpError: if there is no such model.
        """
        if name not in self._base_lms:
            self._base_lms[name] = self._open(name)
        return self._base_lms[name]

    def _open(self, name: str | None) -> LogprobQueue:
        if workers := self._workshop.workers("logprobs", name):
            return LogprobQueue(workers)
        if name is not None:
            return LocalLM(build_base_lm(self._config, name))
        subject = self._workshop.subject
        assert isinstance(subject, Subject)  # there are no workers that have it
        return LocalLM(subject)

    async def aclose(self) -> None:
        """Let the batches under way end."""
        for lm in self._base_lms.values():
            await lm.aclose()
        if self._embedding:
            await self.embedder.aclose()
