"""Conversations that wait, made small: the last turn, no other request's and long, is packed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import overload

from autointerp.llm.client import Message

_ERRORS = "surrogatepass"  # a text may hold what is no character


class Packed(Sequence[Message]):
    """The same turns. Those before the last are instructions and examples, which requests share."""

    __slots__ = ("_last", "_role", "_shared")

    def __init__(self, messages: Sequence[Message]) -> None:
        *shared, last = messages
        self._shared = tuple(shared)
        self._role = last.role
        self._last = zlib.compress(last.content.encode(errors=_ERRORS), 1)

    def __len__(self) -> int:
        return len(self._shared) + 1

    def __iter__(self) -> Iterator[Message]:
        yield from self._shared
        yield Message(self._role, zlib.decompress(self._last).decode(errors=_ERRORS))

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Message]: ...
    def __getitem__(self, at: int | slice) -> Message | Sequence[Message]:
        return tuple(self)[at]
