"""What tokens cost: a small table, extended by ``llms.NAME.prices``."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from autointerp.llm.client import Usage
from autointerp.llm.servers import is_loopback, is_openai, runs_here
from autointerp.llm.transport import Answer
from autointerp.sections import LLMSection, PriceSection

TABLE = Path(__file__).parent / "prices.json"
FREE = PriceSection(prompt=0, completion=0)
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def prices_of(section: LLMSection) -> PriceSection | None:
    """The configured prices, the table's, nothing for one's own server, or None if unknown."""
    if section.prices is not None:
        return section.prices
    if runs_here(section) or is_loopback(section.base_url):
        return FREE
    if not is_openai(section):
        return None
    table, undated = _table(), _DATED.sub("", section.model)
    found = table.get(section.model, table.get(undated))  # some snapshots have their own
    return _halved(found) if found is not None and section.waves else found


def _halved(prices: PriceSection) -> PriceSection:
    """OpenAI's prices for what comes in batch files."""
    cached = prices.cached
    return PriceSection(
        prompt=prices.prompt / 2,
        cached=None if cached is None else cached / 2,
        completion=prices.completion / 2,
    )


def dollars(prices: PriceSection | None, usage: Usage) -> float:
    """What ``usage`` costs; 0 where the price is unknown."""
    if prices is None:
        return 0.0
    cached = prices.prompt if prices.cached is None else prices.cached
    fresh = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh * prices.prompt
        + usage.cached_tokens * cached
        + usage.completion_tokens * prices.completion
    ) / 1e6


def priced(prices: PriceSection | None, answer: Answer) -> Answer:
    """The answer with its cost in dollars."""
    usage = replace(answer.usage, dollars=dollars(prices, answer.usage))
    return replace(answer, usage=usage)


@cache
def _table() -> dict[str, PriceSection]:
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return {model: PriceSection.model_validate(row) for model, row in rows.items()}
