"""Which latents of a coder a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autointerp.latents.names import AutointerpError


@dataclass(frozen=True)
class Wanted:
    """What one entry of ``latents`` asks for: everything, a sample, or these indices."""

    kind: Literal["all", "alive", "indices"]
    count: int = 0
    indices: tuple[int, ...] = ()


def parse_latents(wanted: str | Sequence[int], where: str) -> Wanted:
    """Read ``all``, ``alive:40``, ``3,5,10-20`` or a list of indices; ranges include both ends.

    Raises:
        AutointerpError: if it is none of those.
    """
    if not isinstance(wanted, str):
        if any(index < 0 for index in wanted):
            raise AutointerpError(f"{where}: latents count from 0; {min(wanted)} is negative")
        return Wanted(kind="indices", indices=tuple(sorted(set(wanted))))
    text = wanted.replace(" ", "")
    if text == "all":
        return Wanted(kind="all")
    head, colon, count = text.partition(":")
    if colon and head == "alive" and count.isdecimal() and int(count) > 0:
        return Wanted(kind="alive", count=int(count))
    indices: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise AutointerpError(
                f"{where}: {wanted!r} names no latents; write all, alive:40, 3,5,10-20 or a list"
            )
        indices.update(range(int(first), int(last or first) + 1))
    if not indices:
        raise AutointerpError(f"{where}: {wanted!r} is an empty range")
    return Wanted(kind="indices", indices=tuple(sorted(indices)))
