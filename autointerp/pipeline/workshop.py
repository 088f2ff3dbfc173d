"""Where the torch work of a run is done: in this process, or by workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.latents import AutointerpError
from autointerp.pipeline.cluster import check_installed
from autointerp.pipeline.ray import Pool
from autointerp.sections import EngineSection
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.outline import Outline

Work = Callable[[Any], Any]


class Sketch(NamedTuple):
    """What a process without the subject has to know of it: its outline, and of each coder the
    hook points that it reads and writes."""

    outline: Outline
    places: dict[str, tuple[HookPoint, HookPoint | None]]


class Workshop(Protocol):
    """What the stages of a run know of where its models are."""

    @property
    def subject(self) -> Subject | Outline:
        """The subject where it is in this process, else its outline."""

    @property
    def attached(self) -> Mapping[str, Attached]:
        """The coders, by name: on the subject's device where that is in this process."""

    def workers(self, method: str, *arguments: Any) -> Sequence[Work]:
        """For each worker the method of its station, which these ``arguments`` and one more
        are for; none where the work is done in this process."""

    def abandon(self) -> None:
        """Wait no longer for what workers are at."""


class Here:
    """Models in this process. ``load`` gives the subject and its coders."""

    def __init__(self, load: Callable[[], tuple[Subject, Mapping[str, Attached]]]) -> None:
        self._load = load

    @cached_property
    def _loaded(self) -> tuple[Subject, Mapping[str, Attached]]:
        return self._load()

    @property
    def subject(self) -> Subject:
        return self._loaded[0]

    @property
    def attached(self) -> Mapping[str, Attached]:
        return self._loaded[1]

    def workers(self, method: str, *arguments: Any) -> Sequence[Work]:
        return ()

    def abandon(self) -> None:
        return


class Elsewhere:
    """Models in the workers of a pool, which is opened when they are first needed. ``coders``
    gives those of this process, on the CPU, for what is done with their weights alone."""

    def __init__(
        self, open_pool: Callable[[], Pool], coders: Callable[[], Mapping[str, SparseCoder]]
    ) -> None:
        self._open_pool, self._coders = open_pool, coders

    @cached_property
    def _pool(self) -> Pool:
        return self._open_pool()

    @cached_property
    def _sketch(self) -> Sketch:
        sketch: Sketch = self._pool.first("sketch")
        return sketch

    @property
    def subject(self) -> Outline:
        return self._sketch.outline

    @cached_property
    def attached(self) -> Mapping[str, Attached]:
        coders, places = self._coders(), self._sketch.places
        return {name: Attached(coders[name], *place) for name, place in places.items()}

    def workers(self, method: str, *arguments: Any) -> Sequence[Work]:
        return self._pool.each(method, *arguments)

    def abandon(self) -> None:
        self._pool.abandon()


def check_engine(config: RunConfig) -> None:
    """Refuse an engine that cannot work, before anything is loaded.

    Raises:
        AutointerpError: if Ray is not installed, or its workers would share a device.
    """
    if config.engine.kind != "ray":
        return
    check_installed()
    if config.subject.device.startswith("cuda:"):
        raise AutointerpError(
            f"subject.device is {config.subject.device}, which each Ray worker would take for its"
            " own; set it to auto or cuda"
        )


def engine_of(config: RunConfig) -> EngineSection:
    """The engine, without GPUs for a subject that is to be on the CPU."""
    if config.subject.device == "cpu" and config.engine.gpus is None:
        return config.engine.model_copy(update={"gpus": 0.0})
    return config.engine
