"""Log probabilities of texts under an endpoint's model, which echoes what it is sent."""

from __future__ import annotations

from collections.abc import Sequence

from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient, LLMFailure, Message, Request, TokenLogprob
from autointerp.llm.text import clean

_NO_ECHO = (
    "the endpoint gave no log probabilities of the text it was sent; it needs a server whose"
    " /completions knows echo with logprobs, as vLLM's does"
)


class EchoLM:
    """Measures how likely texts are, by plain completions with ``echo`` and ``logprobs``."""

    def __init__(self, client: LLMClient) -> None:
        self._client = client

    async def logprobs(self, continuations: Sequence[tuple[str, str]]) -> list[float | str]:
        """log p(text | before) in nats of each (before, text), or why there is none.

        A token that begins before the text and ends in it counts as the text's.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        return await at_once(self._one(*pair) for pair in continuations)

    async def _one(self, before: str, text: str) -> float | str:
        message = Message("user", before + text)
        request = Request((message,), echo=True, purpose="base_lm")
        try:
            reply = await self._client.complete(request)
        except LLMFailure as failure:
            return failure.reason
        return _nats(reply.logprobs or (), len(clean(text)))


def _nats(tokens: Sequence[TokenLogprob], length: int) -> float | str:
    """The sum over the last tokens, as many as the text's characters need.

    They are counted from the end: what stands before the text may hold tokens that are only
    parts of a character, and those are written with more characters than they have.
    """
    total = 0.0
    for token in reversed(tokens):
        if length <= 0:
            return total
        total += token.logprob
        length -= len(token.token)
    return _NO_ECHO
