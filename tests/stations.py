"""A workshop whose workers are stations in this process, some of which die on the way."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from autointerp.config import RunConfig
from autointerp.examples.options import Attached
from autointerp.pipeline import building
from autointerp.pipeline.stations import Station
from autointerp.pipeline.workshop import Sketch, Work
from autointerp.subject.gathering import LostError
from autointerp.subject.outline import Outline


class Stations:
    """Stations that get and give pickles alone, as those of other processes do.

    The first ``losses`` calls are lost, every second one when its work is done already; at fewer
    than five, nobody gives up. A lost station is made anew.
    """

    def __init__(self, config: RunConfig, count: int, *, losses: int = 0) -> None:
        self.losses = losses
        self._config = config
        self._stations = [Station(config) for _ in range(count)]
        self._lock = Lock()
        sketch: Sketch = pickle.loads(pickle.dumps(self._stations[0].sketch()))
        self._outline = sketch.outline
        coders = building.build_coders(config)
        self._attached = {n: Attached(coders[n], *place) for n, place in sketch.places.items()}

    @property
    def subject(self) -> Outline:
        return self._outline

    @property
    def attached(self) -> dict[str, Attached]:
        return self._attached

    def workers(self, method: str, *arguments: Any) -> Sequence[Work]:
        return [self._worker(i, method, arguments) for i in range(len(self._stations))]

    def abandon(self) -> None:
        return

    def _worker(self, number: int, method: str, fixed: tuple[Any, ...]) -> Work:
        def work(given: Any) -> Any:
            with self._lock:  # torch is quickest in a thread at a time
                lost_at = self.losses
                if lost_at and lost_at % 2 == 0:
                    self._lose(number)
                call: Callable[..., Any] = getattr(self._stations[number], method)
                answer = call(*pickle.loads(pickle.dumps((*fixed, given))))
                if lost_at:
                    self._lose(number)
                return pickle.loads(pickle.dumps(answer))

        return work

    def _lose(self, number: int) -> None:
        self.losses -= 1
        self._stations[number] = Station(self._config)
        raise LostError(lambda: True)
