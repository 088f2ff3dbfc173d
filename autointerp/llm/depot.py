"""What waves are carried with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autointerp.llm.batches import Carrier
from autointerp.llm.journal import Journal
from autointerp.llm.journal_batches import BatchBook
from autointerp.llm.queueing import Afloat
from autointerp.llm.transport import Answer
from autointerp.sections import BatchSection


@dataclass(frozen=True)
class Depot:
    """Where waves come from and go to: limits, who carries them, the journal and its batches, the
    folder of their files, the model's name, what puts a price on an answer, and who is told what is
    under way."""

    limits: BatchSection
    carrier: Carrier
    journal: Journal
    book: BatchBook
    folder: Path
    model: str
    priced: Callable[[Answer], Answer]
    afloat: Afloat
