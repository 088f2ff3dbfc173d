"""What tokens cost: a small table, extended by ``llms.NAME.prices``."""

from __future__ import annotations

import json
import re
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from autointerp.llm.client import Usage
from autointerp.sections import LLMSection, PriceSection

TABLE = Path(__file__).parent / "prices.json"
FREE = PriceSection(prompt=0, completion=0)
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def prices_of(section: LLMSection) -> PriceSection | None:
    """The configured prices, the table's, nothing for one's own server, or None if unknown."""
    if section.prices is not None:
        return section.prices
    if section.backend == "vllm" or is_loopback(section.base_url):
        return FREE
    if not is_openai(section):
        return None
    table, undated = _table(), _DATED.sub("", section.model)
    return table.get(section.model, table.get(undated))  # some snapshots have prices of their own


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


def is_openai(section: LLMSection) -> bool:
    """Whether the endpoint is OpenAI's own."""
    if section.base_url is None:
        return section.backend == "openai"
    return urlsplit(section.base_url).hostname == "api.openai.com"


def is_loopback(url: str | None) -> bool:
    """Whether ``url`` is on this machine."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False


@cache
def _table() -> dict[str, PriceSection]:
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return {model: PriceSection.model_validate(row) for model, row in rows.items()}
