"""Any OpenAI-compatible endpoint: sends one body, sorts what comes back into answers and faults.

The key stays in here: the library's exceptions hold it, so none of them leaves.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from autointerp.llm.completions import read_completion
from autointerp.llm.keys import NO_KEY, read_api_key
from autointerp.llm.transport import MOST_SHOWN, Answer, Fault, Refusal, Route
from autointerp.sections import LLMSection

_BUSY = frozenset({429, 503})
_PASSING = frozenset({408, 409, 425})  # besides every 5xx
_UNBILLED = frozenset({408, 409, 425, 429, 500, 503, 529})
_STRUCTURED = ("response_format", "json_schema", "structured", "guided")
OPENAI = "https://api.openai.com/v1"
SHORTEST_SECRET = 8  # characters; a shorter key is a stopgap for a server that checks none

T = TypeVar("T")


@dataclass(frozen=True)
class _Problem:
    """What to raise, told apart from the library's exception, which holds the key."""

    error: Fault | Refusal


class Endpoint:
    """The client library at one endpoint. It retries nothing, and waits ``timeout`` seconds."""

    def __init__(
        self, section: LLMSection, where: str, base_url: str | None, timeout: float | None
    ) -> None:
        self._where = where
        self._key = read_api_key(section, where)
        self._key_variable = section.api_key_env
        self.client = AsyncOpenAI(
            api_key=self._key,
            base_url=base_url or OPENAI,  # said, since the library would ask the environment
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(timeout=timeout),
        )

    async def close(self) -> None:
        await self.client.close()

    async def call(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """What the library's ``work`` gives, within so many seconds.

        Raises:
            Fault: if another attempt may succeed.
            Refusal: if none will.
        """
        done = await self._sorted(work, seconds)
        if isinstance(done, _Problem):
            raise done.error
        return done

    async def _sorted(self, work: Awaitable[T], seconds: float | None) -> T | _Problem:
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            late = f"no answer within {seconds:g} s"
            return _Problem(Fault("timeout", late, billed=True))
        except APIStatusError as error:
            said, wait = error.response.text, _retry_after(error)
            return _Problem(self.sort(error.status_code, said, wait))
        except APIConnectionError as error:
            refused = _never_connected(error)
            what = "cannot connect" if refused else "the connection broke"
            return _Problem(Fault("connection", what, billed=not refused))
        except httpx2.HTTPError as error:
            what = f"the connection broke ({type(error).__name__})"
            return _Problem(Fault("connection", what, billed=True))

    def sort(self, status: int, text: str, retry_after: float | None = None) -> Fault | Refusal:
        """What an HTTP status that is no success means, and the words that came with it."""
        whole = " ".join(self.redact(text).split())
        said = whole[:MOST_SHOWN]
        reason = f"{self._where}: the server answered {status}: {said}"
        # Further on, a server that refuses a request may repeat it; one that is busy does not.
        if status == 402 or "insufficient_quota" in (whole if status == 429 else said):
            return Refusal("account", f"{reason}; put money on the account and run again to go on")
        if status in _BUSY:
            return Fault("busy", reason, billed=False, retry_after=retry_after)
        if status in _PASSING or status >= 500:
            billed = status not in _UNBILLED
            return Fault("server", reason, billed, retry_after=retry_after)
        if status in (400, 404, 422) and any(name in said.lower() for name in _STRUCTURED):
            return Refusal("schema", reason)
        if status in (401, 403):
            return Refusal("setup", f"{reason} (is the key in {self._key_variable} right?)")
        if status == 404:
            return Refusal("setup", f"{reason} (are model and base_url right?)")
        return Refusal("request", reason)

    def redact(self, text: str) -> str:
        """Without the key; one so short that words may hold it is no secret."""
        if self._key == NO_KEY or len(self._key) < SHORTEST_SECRET:
            return text
        return text.replace(self._key, "[API key]")


class OpenAITransport:
    """Sends bodies to one endpoint. Retries nothing."""

    def __init__(self, section: LLMSection, where: str, base_url: str | None) -> None:
        # One limit over the whole exchange, below.
        self._endpoint = Endpoint(section, where, base_url, timeout=None)
        self._timeout = section.timeout

    async def close(self) -> None:
        await self._endpoint.close()

    async def send(self, body: bytes, path: Route = "/chat/completions") -> Answer:
        """Post ``body`` and read the answer.

        Raises:
            Fault: if another attempt may succeed.
            Refusal: if none will.
        """
        sent = self._endpoint.client.post(
            path,
            cast_to=httpx2.Response,
            content=body,
            options={"headers": {"Content-Type": "application/json"}},
        )
        response = await self._endpoint.call(sent, self._timeout)
        said = self._endpoint.redact(response.content.decode("utf-8", "replace"))
        return read_completion(lambda: json.loads(said), len(body))


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
