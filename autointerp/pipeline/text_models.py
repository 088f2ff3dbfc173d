"""The embedder and the base language models of a stage, loaded when a kind first needs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from autointerp.config import RunConfig
from autointerp.pipeline.building import build_embedder
from autointerp.subject.base_lm import LocalLM
from autointerp.subject.embedder import EmbeddingQueue
from autointerp.subject.model import Subject, load_subject


class TextModels:
    """Lends models that read texts; close with :meth:`aclose` at the end of the stage.

    ``subject`` gives the run's, which is the base language model where no other is named.
    """

    def __init__(self, config: RunConfig, subject: Callable[[], Subject]) -> None:
        self._config, self._subject = config, subject
        self._base_lms: dict[str | None, LocalLM] = {}
        self._embedding = False

    @cached_property
    def embedder(self) -> EmbeddingQueue:
        self._embedding = True
        return EmbeddingQueue(build_embedder(self._config))

    def base_lm(self, name: str | None) -> LocalLM:
        """The local model of that name, else the subject; the same object for the same name.

        Raises:
            AutointerpError: if there is no such model.
        """
        if name not in self._base_lms:
            self._base_lms[name] = LocalLM(self._load(name))
        return self._base_lms[name]

    def _load(self, name: str | None) -> Subject:
        if name is None:
            return self._subject()
        like = self._config.subject
        length = 2**20  # as many as the model takes
        return load_subject(name, dtype=like.dtype, device=like.device, context_length=length)

    async def aclose(self) -> None:
        """Let the batches under way end."""
        for lm in self._base_lms.values():
            await lm.aclose()
        if self._embedding:
            await self.embedder.aclose()
