"""What waves are carried with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autointerp.llm.batches import Carrier
from autointerp.llm.gate import Afloat
from autointerp.llm.journal import Journal
from autointerp.llm.journal_batches import BatchBook
from autointerp.sections import BatchSection, PriceSection


@dataclass(frozen=True)
class Depot:
    """Where waves come from and go to: limits, who carries them, the journal and its batches, the
    folder of their files, the model's name and prices, and who is told what is under way."""

    limits: BatchSection
    carrier: Carrier
    journal: Journal
    book: BatchBook
    folder: Path
    model: str
    prices: PriceSection | None
    afloat: Afloat
