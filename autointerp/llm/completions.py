"""Reads what a server answers: the choice of a completion, its log probabilities, its usage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from autointerp.llm.client import TokenLogprob, Usage
from autointerp.llm.text import clean
from autointerp.llm.transport import Answer, Fault

_WRONG = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def read_completion(read: Callable[[], Mapping[str, Any]], sent: int) -> Answer:
    """The answer in a completion, chat or plain; ``sent`` is the size of the request in bytes.

    Raises:
        Fault: if ``read`` gives no completion.
    """
    try:
        return _read(read(), sent)
    except _WRONG:
        pass  # what is wrong with it may hold anything the server has said
    raise Fault("garbled", "the server's answer is not a completion", billed=True)


def _read(reply: Mapping[str, Any], sent: int) -> Answer:
    choice = reply["choices"][0]
    if "message" not in choice:
        return Answer(
            text="",
            usage=_usage(reply.get("usage"), sent, ""),
            logprobs=_echoed(choice["logprobs"]),
            finish=choice.get("finish_reason"),
        )
    message = choice["message"]
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        raise TypeError("the content is not text")
    return Answer(
        text=clean(text),
        usage=_usage(reply.get("usage"), sent, text),
        logprobs=_logprobs(choice.get("logprobs")),
        finish=choice.get("finish_reason"),
    )


def _echoed(logprobs: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...] | None:
    """The tokens of a text that was sent to be echoed; the first has no probability."""
    if not logprobs:
        return None
    return tuple(
        TokenLogprob(clean(token), 0.0 if logprob is None else float(logprob))
        for token, logprob in zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True)
    )


def _usage(usage: Mapping[str, Any] | None, sent: int, text: str) -> Usage:
    """What the server counted; four bytes a token where it does not count."""
    if not usage:
        return Usage(prompt_tokens=sent // 4, completion_tokens=len(text) // 4)
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(usage["prompt_tokens"]),
        cached_tokens=int(details.get("cached_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _logprobs(logprobs: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...] | None:
    if not logprobs or logprobs.get("content") is None:
        return None
    return tuple(
        TokenLogprob(
            token=clean(entry["token"]),
            logprob=float(entry["logprob"]),
            top=tuple((clean(t["token"]), float(t["logprob"])) for t in entry["top_logprobs"]),
        )
        for entry in logprobs["content"]
    )
