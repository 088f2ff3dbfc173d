"""What a latent is called, and the words for splits, sources of windows and statuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["explain", "select", "test"]
SPLITS: tuple[Split, ...] = ("explain", "select", "test")

Source = Literal["activating", "donor", "random", "token", "neighbour", "semantic"]
SOURCES: tuple[Source, ...] = get_args(Source)
HARD_SOURCES: tuple[Source, ...] = ("token", "neighbour", "semantic")

Status = Literal["explained", "no_explanation", "too_few_examples", "dead", "failed", "stopped"]


class AutointerpError(Exception):
    """A mistake of the user's, told in one line: what is wrong, where, and what to do."""


@dataclass(frozen=True, order=True)
class LatentId:
    """One latent: the name its coder has in the run, and its index in that coder."""

    coder: str
    index: int

    def __str__(self) -> str:
        return f"{self.coder}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> LatentId:
        """Read ``layers.1/123``.

        Raises:
            AutointerpError: if the text is not a coder's name, a slash and a number.
        """
        coder, slash, index = text.rpartition("/")
        if not slash or not coder or not index.isdecimal():
            raise AutointerpError(
                f"{text!r} is not a latent; write CODER/INDEX, as in layers.1/123"
            )
        return cls(coder, int(index))
