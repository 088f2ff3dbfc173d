"""A share of the work of a run: so many equal parts, and which of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from autointerp.latents.names import AutointerpError


@dataclass(frozen=True, order=True)
class Shard:
    """Part ``number`` (from 1) of ``of``; printed and parsed as ``3/16``."""

    of: int
    number: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def folder(self) -> str:
        """The name of its directory, ``3-of-16``."""
        return f"{self.number}-of-{self.of}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``3/16``, or the name of a directory, ``3-of-16``.

        Raises:
            AutointerpError: if the text is neither, or there is no such part.
        """
        found = re.fullmatch(r"([0-9]{1,9})(?:/|-of-)([0-9]{1,9})", text)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise AutointerpError(
                f"{text!r} is not a shard; write NUMBER/HOW-MANY, the first being 1, as in 3/16"
            )
        return cls(of, number)

    @property
    def all(self) -> list[Shard]:
        """All parts of the same division, in order."""
        return [Shard(self.of, number) for number in range(1, self.of + 1)]

    def bounds(self, size: int) -> tuple[int, int]:
        """The first of ``size`` things that is its own, and the first that is the next part's."""
        return (self.number - 1) * size // self.of, self.number * size // self.of
