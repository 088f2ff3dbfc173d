"""Rows of one sorted stream, handed out to the rows of another that is sorted by the same key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Following(Generic[T]):
    """Rows by ascending keys, of which one key's are held; those of keys that nobody asks for are
    passed over."""

    def __init__(self, rows: Iterable[T], key: Callable[[T], Any]) -> None:
        self._groups = groupby(rows, key)
        self._waiting = next(self._groups, None)

    def of(self, key: Any) -> list[T]:
        """All rows of a key; keys are asked for in ascending order."""
        while self._waiting is not None and self._waiting[0] < key:
            self._waiting = next(self._groups, None)
        if self._waiting is None or self._waiting[0] != key:
            return []
        rows = list(self._waiting[1])
        self._waiting = next(self._groups, None)
        return rows
