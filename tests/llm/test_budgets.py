"""Money, tokens and hours: who spent them, and when they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llm_asking import asking, question, run
from llm_server import LLMServer

from autointerp.latents import AutointerpError
from autointerp.llm.accounts import metered
from autointerp.llm.client import BudgetExhausted, Reply
from autointerp.llm.opening import LLMs
from autointerp.sections import BudgetSection, PriceSection


def test_costs_are_kept_by_whoever_meters_and_by_run(tmp_path: Path) -> None:
    async def work(llms: LLMs) -> tuple[int, int, int, int]:
        client, asked = llms.clients["judge"], []
        for texts in ("ab", "ca"):
            with metered() as account:
                for text in texts:
                    await client.complete(question(text))
            asked.append(account.spent.requests)
        return *asked, llms.ledger.total.spent.requests, llms.ledger.unpriced

    with LLMServer() as server:
        assert run(server, tmp_path, work) == (2, 1, 3, 0)


def test_a_budget_in_dollars_needs_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with LLMServer() as server, pytest.raises(AutointerpError, match="needs the prices of test"):
        run(server, tmp_path, asking([]), BudgetSection(dollars=1), base_url="https://x.invalid")


def test_a_budget_stops_cleanly_and_the_run_resumes(tmp_path: Path) -> None:
    requests = [question(f"{n} " + "x" * 300) for n in range(30)]
    prices = PriceSection(prompt=10, completion=10)
    options: dict[str, Any] = {"prices": prices, "max_tokens": 50}
    with LLMServer(latency=0.01) as server:
        first = run(server, tmp_path, asking(requests), BudgetSection(dollars=0.015), **options)
        done = [reply for reply in first if isinstance(reply, Reply)]
        assert 0 < len(done) < 30
        assert all(isinstance(r, Reply | BudgetExhausted) for r in first)
        assert sum(reply.usage.dollars for reply in done) <= 0.015
        same = run(server, tmp_path, asking(requests), BudgetSection(dollars=0.015), **options)
        assert sum(isinstance(reply, Reply) for reply in same) == len(done)
        last = run(server, tmp_path, asking(requests), BudgetSection(dollars=9), **options)
        assert all(isinstance(reply, Reply) for reply in last)
        assert set(server.stats.served.values()) == {1}


@pytest.mark.parametrize("limit", [{"prompt_tokens": 1000}, {"hours": 0.0}])
def test_tokens_and_hours_are_budgets_too(limit: dict[str, Any], tmp_path: Path) -> None:
    requests = [question(f"{n} " + "x" * 300) for n in range(30)]
    with LLMServer() as server:
        replies = run(server, tmp_path, asking(requests), BudgetSection(**limit))
    stopped = [reply for reply in replies if isinstance(reply, BudgetExhausted)]
    assert stopped
    assert next(iter(limit)) in str(stopped[0])
    tokens = sum(reply.usage.prompt_tokens for reply in replies if isinstance(reply, Reply))
    assert tokens <= 1000
