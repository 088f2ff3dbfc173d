"""The Ray engine: an object in each of several processes, called from here.

It knows nothing of what the objects do. A process that dies is replaced by Ray, on any node that
has room; whoever called it is told by a :class:`LostError`, and calls again.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

from autointerp.latents import AutointerpError
from autointerp.pipeline.cluster import started
from autointerp.sections import EngineSection
from autointerp.subject.gathering import MOST_LOSSES, LostError
from autointerp.subject.reasons import first_line

PLACED_WITHIN = 600.0  # seconds in which a cluster must have room for a worker
LOOKED_AGAIN = 1.0  # seconds between two looks whether it has

Tell = Callable[[int, int], None]  # workers that have a place, of how many


class _Host:
    """Holds the object, in a process of its own.

    It is made by the first call, so that what goes wrong then is told to who called.
    """

    def __init__(self, make: Callable[[], Any], folder: str) -> None:
        if Path(folder).is_dir():  # so that relative paths mean what they mean to the caller
            os.chdir(folder)
        self._make, self._made = make, None

    def call(self, method: str, *arguments: Any) -> bytes:
        """Pickled, for Ray's own arrays cannot be written to and hold shared memory."""
        if self._made is None:
            self._made = self._make()
        return pickle.dumps(getattr(self._made, method)(*arguments))

    def is_here(self) -> bool:
        return True


class Worker:
    """One process, as seen from here; its calls wait for the answer, in any thread."""

    def __init__(self, actor: Any, abandoned: Event) -> None:
        self._actor, self._abandoned = actor, abandoned

    def call(self, method: str, *arguments: Any) -> Any:
        """What the object's method returns; what it raises is raised here.

        Raises:
            LostError: if the process is gone.
        """
        from ray import exceptions

        try:
            return pickle.loads(self._answer(self._actor.call.remote(method, *arguments)))
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except (
            exceptions.RayActorError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
            exceptions.WorkerCrashedError,
        ) as error:
            raise LostError(partial(self.is_here, time.monotonic() + PLACED_WITHIN)) from error
        except exceptions.RayError as error:
            raise AutointerpError(f"Ray failed: {first_line(error)}") from error

    def _answer(self, asked: Any) -> bytes:
        import ray

        while not ray.wait([asked], timeout=LOOKED_AGAIN)[0]:
            if self._abandoned.is_set():
                raise RuntimeError("abandoned")  # nobody waits any more
        answer: bytes = ray.get(asked)
        return answer

    def is_here(self, until: float) -> bool:
        """Whether the process, or the one in its place, is there; waits a moment for it.

        Raises:
            AutointerpError: if it cannot be, or is not by the time ``until``.
        """
        import ray
        from ray import exceptions

        asked = self._actor.is_here.remote()
        done, _ = ray.wait([asked], timeout=LOOKED_AGAIN)
        try:
            if done:
                return bool(ray.get(asked))
        except exceptions.ActorDiedError as error:  # for good: it was to be replaced
            why = str(error).strip().splitlines()[-1]
            raise AutointerpError(f"a Ray worker cannot start: {why}") from error
        except exceptions.RayActorError:
            time.sleep(LOOKED_AGAIN)
        if time.monotonic() > until:
            raise AutointerpError(
                f"the cluster had no room for a Ray worker in {PLACED_WITHIN / 60:.0f} minutes;"
                " see `ray status`, and lower engine.workers or engine.gpus"
            )
        return False


class Pool:
    """Workers on a cluster that runs, or on one of this machine alone that ends with the pool.

    Use it as a context manager. Where Ray is in use by this process already, it is used, and left
    as it is.

    Args:
        engine: how many workers, with how many GPUs each, and where.
        make: makes each worker's object, in its process.
        log: a file for what Ray prints.
        tell: is told how many workers have a place.
    """

    def __init__(
        self, engine: EngineSection, make: Callable[[], Any], log: Path, tell: Tell
    ) -> None:
        self._engine, self._make, self._log, self._tell = engine, make, log, tell
        self._open = ExitStack()
        self._abandoned = Event()
        self.workers: list[Worker] = []

    def __enter__(self) -> Self:
        with self._open as opening:
            output = opening.enter_context(self._log.open("a", encoding="utf-8", buffering=1))
            opening.enter_context(redirect_stdout(output))  # where Ray says what became of workers
            opening.enter_context(started(self._engine))
            actors = self._actors()
            opening.callback(_end, actors)
            self.workers = [Worker(actor, self._abandoned) for actor in actors]
            self._wait()
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the workers, and what was started for them."""
        self._open.close()

    def each(self, method: str, *arguments: Any) -> list[Callable[[Any], Any]]:
        """The method of each worker's object, these ``arguments`` given and one to be given."""
        import ray

        held = [ray.put(argument) for argument in arguments]
        return [partial(worker.call, method, *held) for worker in self.workers]

    def abandon(self) -> None:
        """Wait no longer for what workers are at; who waits gets a RuntimeError."""
        self._abandoned.set()

    def first(self, method: str, *arguments: Any) -> Any:
        """What the method of the first worker's object returns; asked again if that is lost."""
        losses = 0
        while True:
            try:
                return self.workers[0].call(method, *arguments)
            except LostError as lost:
                losses += 1
                if losses == MOST_LOSSES:
                    raise AutointerpError(
                        f"{losses} Ray workers died in {method}; see {self._log}, and whether"
                        " memory is enough"
                    ) from lost
                while not lost.is_back():
                    pass

    def _actors(self) -> list[Any]:
        """As many as asked for, else one a GPU, and what this machine has shared out to them."""
        import ray

        here, gpus = _resources(), self._engine.gpus
        found = here.get("GPU", 0.0)
        if gpus is None:
            gpus = 1.0 if found else 0.0
        count = self._engine.workers or (max(1, int(found / gpus)) if gpus else 1)
        cpus = 1
        if self._engine.address is None:
            if count * gpus > found:
                raise AutointerpError(
                    f"{count} workers with {gpus:g} GPUs each are more than the {found:g} here;"
                    " lower engine.workers or engine.gpus"
                )
            cpus = max(1, int(here.get("CPU", 1)) // count)
        host = ray.remote(_Host).options(num_cpus=cpus, num_gpus=gpus, max_restarts=-1)
        return [host.remote(self._make, os.getcwd()) for _ in range(count)]

    def _wait(self) -> None:
        """Wait until every worker has a place."""
        until = time.monotonic() + PLACED_WITHIN
        for number, worker in enumerate(self.workers):
            self._tell(number, len(self.workers))
            while not worker.is_here(until):
                pass
        self._tell(len(self.workers), len(self.workers))


def _end(actors: Sequence[Any]) -> None:
    import ray

    for actor in actors:
        ray.kill(actor)


def _resources() -> dict[str, float]:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found
