"""Any OpenAI-compatible endpoint: sends one body, sorts what comes back into answers and faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from autointerp.llm.client import TokenLogprob, Usage
from autointerp.llm.keys import NO_KEY, read_api_key
from autointerp.llm.text import clean
from autointerp.llm.transport import Answer, Fault, Path, Refusal
from autointerp.sections import LLMSection

_BUSY = frozenset({429, 503})
_PASSING = frozenset({408, 409, 425})  # besides every 5xx
_UNBILLED = frozenset({408, 409, 425, 429, 500, 503, 529})
_STRUCTURED = ("response_format", "json_schema", "structured", "guided")
OPENAI = "https://api.openai.com/v1"
MOST_SHOWN = 300  # characters of a server's own words


@dataclass(frozen=True)
class _Problem:
    """What to raise, told apart from the library's exception, which holds the key."""

    error: Fault | Refusal


class OpenAITransport:
    """Sends bodies to one endpoint. Retries nothing. The key stays in here."""

    def __init__(self, section: LLMSection, where: str, base_url: str | None) -> None:
        self._where = where
        self._key = read_api_key(section, where)
        self._key_variable = section.api_key_env
        self._timeout = section.timeout
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=base_url or OPENAI,  # said, since the library would ask the environment
            max_retries=0,
            timeout=None,  # one limit over the whole exchange, below
            http_client=DefaultAioHttpClient(timeout=None),
        )

    async def close(self) -> None:
        await self._client.close()

    async def send(self, body: bytes, path: Path = "/chat/completions") -> Answer:
        """Post ``body`` and read the answer.

        Raises:
            Fault: if another attempt may succeed.
            Refusal: if none will.
        """
        response = await self._post(body, path)
        if isinstance(response, _Problem):
            raise response.error
        try:
            return _read(json.loads(self._redact(response)), len(body))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        raise Fault("garbled", "the server's answer is not a completion", billed=True)

    async def _post(self, body: bytes, path: Path) -> str | _Problem:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(
                    path,
                    cast_to=httpx2.Response,
                    content=body,
                    options={"headers": {"Content-Type": "application/json"}},
                )
                return response.content.decode("utf-8", "replace")
        except TimeoutError:
            late = f"no answer within {self._timeout:g} s"
            return _Problem(Fault("timeout", late, billed=True))
        except APIStatusError as error:
            return _Problem(self._sort(error))
        except APIConnectionError as error:
            refused = _never_connected(error)
            what = "cannot connect" if refused else "the connection broke"
            return _Problem(Fault("connection", what, billed=not refused))
        except httpx2.HTTPError as error:
            what = f"the connection broke ({type(error).__name__})"
            return _Problem(Fault("connection", what, billed=True))

    def _sort(self, error: APIStatusError) -> Fault | Refusal:
        status = error.status_code
        whole = " ".join(self._redact(error.response.text).split())
        said = whole[:MOST_SHOWN]
        reason = f"{self._where}: the server answered {status}: {said}"
        # Further on, a server that refuses a request may repeat it; one that is busy does not.
        if status == 402 or "insufficient_quota" in (whole if status == 429 else said):
            return Refusal("account", f"{reason}; put money on the account and run again to go on")
        if status in _BUSY:
            return Fault("busy", reason, billed=False, retry_after=_retry_after(error))
        if status in _PASSING or status >= 500:
            billed = status not in _UNBILLED
            return Fault("server", reason, billed, retry_after=_retry_after(error))
        if status in (400, 404, 422) and any(name in said.lower() for name in _STRUCTURED):
            return Refusal("schema", reason)
        if status in (401, 403):
            return Refusal("setup", f"{reason} (is the key in {self._key_variable} right?)")
        if status == 404:
            return Refusal("setup", f"{reason} (are model and base_url right?)")
        return Refusal("request", reason)

    def _redact(self, text: str) -> str:
        if self._key == NO_KEY or self._key not in text:
            return text
        return text.replace(self._key, "[API key]")


def _never_connected(error: BaseException) -> bool:
    """Whether the cause is a connection that was not made, rather than one that broke."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientConnectorError):
        cause = cause.__cause__
    return cause is not None


def _retry_after(error: APIStatusError) -> float | None:
    """Seconds, from Retry-After as a number or a date; None if it is neither."""
    said = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


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
