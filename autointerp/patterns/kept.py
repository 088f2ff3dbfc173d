"""Arrays that are dear to make and asked for again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Array = TypeVar("Array", bound=np.ndarray[Any, Any])


class Kept(Generic[Key, Array]):
    """Arrays by key; those not asked for longest go when all exceed ``limit`` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._arrays: OrderedDict[Key, Array] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Array]) -> Array:
        """The array kept for the key, or else what ``make`` gives."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        made = self._arrays[key] = make()
        self._size += made.nbytes
        while self._size > self._limit:
            self._size -= self._arrays.popitem(last=False)[1].nbytes
        return made
