"""What a harvest is asked to read and to keep, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import HookPoint


@dataclass(frozen=True)
class CorpusOptions:
    """Which text to read, and how many tokens of it at most."""

    source: str = "stdlib"
    column: str = "text"
    tokens: int = 1_000_000


@dataclass(frozen=True)
class ExampleOptions:
    """What to keep: windows a latent by split and kind, and shared random windows."""

    window: int = 32
    background: int = 4096
    splits: tuple[float, float, float] = (0.4, 0.2, 0.4)
    explain_top: int = 40
    explain_sampled: int = 200
    select_sampled: int = 60
    test_sampled: int = 120

    @property
    def keep(self) -> tuple[int, int, int, int]:
        """The sizes of the reservoirs, in the order of ``store.GROUPS``."""
        return (self.explain_top, self.explain_sampled, self.select_sampled, self.test_sampled)


class Attached(NamedTuple):
    """A coder, the hook it reads, and the one it reconstructs (itself unless a transcoder)."""

    coder: SparseCoder
    hook: HookPoint
    target: HookPoint | None = None


@dataclass(frozen=True)
class Progress:
    """How far a harvest is; ``tokens_per_second`` is of this process."""

    tokens: int
    total: int
    documents: int
    tokens_per_second: float
