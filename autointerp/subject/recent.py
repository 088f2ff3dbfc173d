"""What was found last, within a limit of size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_: object) -> int:
    return 1


class Recent(Generic[K, V]):
    """Values by key; those not asked for longest go when all together exceed ``limit``.

    ``size`` says how much a value takes; unless given, ``limit`` is a number of values.
    """

    def __init__(self, limit: int, size: Callable[[V], int] = _one) -> None:
        self._left, self._size = limit, size
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def among(self, keys: Iterable[K]) -> dict[K, V]:
        """The values of those keys that have one."""
        found = {key: self._values[key] for key in keys if key in self._values}
        for key in found:
            self._values.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, in the place of the key's former one."""
        if key in self._values:
            self._left += self._size(self._values.pop(key))
        self._values[key] = value
        self._left -= self._size(value)
        while self._left < 0 and self._values:
            self._left += self._size(self._values.popitem(last=False)[1])
