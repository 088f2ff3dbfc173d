"""Log probabilities of texts from a completions endpoint that echoes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from llm_asking import run
from llm_server import Body, LLMServer
from llm_values import AGAIN, NEW

from autointerp.latents import AutointerpError
from autointerp.llm.client import BudgetExhausted
from autointerp.llm.echo import EchoLM
from autointerp.llm.opening import LLMs
from autointerp.sections import BudgetSection


def nats(server: LLMServer, folder: Path, *pairs: tuple[str, str], **options: Any) -> Any:
    async def work(llms: LLMs) -> Any:
        return await EchoLM(llms.clients["judge"]).logprobs(pairs)

    return run(server, folder, work, **options)


class Echoing(LLMServer):
    """Gives the tokens that it is told of."""

    def __init__(self, tokens: list[str] | None) -> None:
        super().__init__()
        self.tokens = tokens

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        reply = super()._completion(body, key, fault)
        tokens = self.tokens
        told = tokens and {
            "tokens": tokens,
            "token_logprobs": [None] + [-float(i) for i in range(1, len(tokens))],
        }
        reply["choices"][0]["logprobs"] = told or None
        return reply


def test_the_tokens_of_the_text_alone_are_summed(tmp_path: Path) -> None:
    with LLMServer() as server:
        found = nats(server, tmp_path, ("cats:\n", "a dog"), ("a cat\n", "a cat ran"))
    assert found == [2 * NEW, 2 * AGAIN + NEW]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["<s>", "ab", " c", "d"], -5.0),  # another token before
        (["ab", " ", "c", "d"], -5.0),  # the blank is no part of the text
        (["ab", " cd"], -1.0),  # begins before the text
        (["\ufffd", "\ufffd", "\ufffd", "b", " c", "d"], -9.0),  # a character in three tokens
    ],
)
def test_tokens_that_do_not_begin_where_the_text_does(
    tokens: list[str], expected: float, tmp_path: Path
) -> None:
    with Echoing(tokens) as server:
        assert nats(server, tmp_path, ("ab ", "cd")) == [expected]


@pytest.mark.parametrize("tokens", [None, ["d"]])
def test_an_endpoint_that_echoes_nothing_is_named_as_such(
    tokens: list[str] | None, tmp_path: Path
) -> None:
    with Echoing(tokens) as server:
        (reason,) = nats(server, tmp_path, ("ab ", "cd"))
    assert "echo" in reason


def test_a_text_is_paid_for_once(tmp_path: Path) -> None:
    with LLMServer() as server:
        assert nats(server, tmp_path, ("a", " b"), ("a", " b")) == [NEW, NEW]
        assert nats(server, tmp_path, ("a", " b")) == [NEW]
        assert server.stats.served.total() == 1


def test_transport_faults_are_retried(tmp_path: Path) -> None:
    faults = {"429": 0.2, "500": 0.2, "truncated": 0.1}
    with LLMServer(faults=faults) as server:
        found = nats(server, tmp_path, *((f"t{i}", " b") for i in range(30)))
    assert sum(value == NEW for value in found) >= 25
    assert all(value == NEW or isinstance(value, str) for value in found)


def test_a_spent_budget_stops_rather_than_fails(tmp_path: Path) -> None:
    with LLMServer() as server, pytest.raises(BudgetExhausted):
        nats(server, tmp_path, ("a", " b"), budget=BudgetSection(prompt_tokens=1))


def test_an_endpoint_without_completions_stops_the_run(tmp_path: Path) -> None:
    with LLMServer() as server, pytest.raises(AutointerpError, match="404"):
        nats(server, tmp_path, ("a", " b"), base_url=f"{server.url}/elsewhere")
