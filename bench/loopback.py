"""A language model that costs next to nothing: loopback HTTP in a process of its own.

Usage: python bench/loopback.py [--port N] [--latency S] [--errors RATE] [--resets RATE]
[--capacity N] [--per-second N] [--log FILE]. It prints its URL as one line of JSON and serves until
it is stopped. ``GET /stats`` tells how many answers it gave, and how many requests were in flight,
by tenth of a second.

Every answer is of the kind that is asked for: an explanation names the plain word that is marked
most often in the last turn, and a text is labelled 1 where it holds the word that the explanation
names (or its marked tokens do). ``capacity`` refuses with 429 what comes while so many are in
flight, ``per-second`` what comes faster, over a second. ``log`` gets a line for each request that
came: its key in a run's journal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from autointerp.llm.journal import key_of

TICK = 0.1  # seconds
BURST = 1.0  # seconds of ``per_second`` that may come at once
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
# In a body that is JSON, whose texts are JSON strings again.
_NUMBERED = re.compile(rb"(?<!\\)\\n\d+\. ")
_MARKED = re.compile(rb"(?:<<|\\u27e6)([\w ]+)(?:>>|\\u27e7)")
_TOLD = re.compile(rb"@([\w ]+)@")
_FUZZED = re.compile(rb"\\u00ab(.*?)\\u00bb")
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_ERROR = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_BODY = (
    '{{"id": "x", "object": "chat.completion", "created": 0, "model": "bench", "choices":'
    ' [{{"index": 0, "finish_reason": "stop", "message": {{"role": "assistant", "content":'
    ' {content}}}, "logprobs": {logprobs}}}], "usage": {{"prompt_tokens": {prompt},'
    ' "completion_tokens": {completion}, "total_tokens": {total},'
    ' "prompt_tokens_details": {{"cached_tokens": 0}}}}}}'
)


@dataclass
class Settings:
    """How the server behaves; ``latency`` is in seconds, ``errors`` and ``resets`` are rates."""

    latency: float = 0.0
    errors: float = 0.0
    resets: float = 0.0
    capacity: int | None = None
    per_second: float | None = None
    log: Path | None = None


@dataclass
class Model:
    """What all connections share. ``ticks`` has the mean number in flight of each tenth of a
    second, ``answered`` and ``refused`` how many answers and refusals there were in it."""

    settings: Settings
    in_flight: int = 0
    log: TextIO | None = None
    where: str = ""  # as the journal's keys have it
    total: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("answered", "refused"), 0))
    ticks: list[dict[str, float]] = field(default_factory=list)
    _area: float = 0.0  # requests in flight times seconds, in this tick
    _since: float = field(default_factory=time.monotonic)
    _tokens: float = 0.0
    _rng: random.Random = field(default_factory=lambda: random.Random(0))
    _reported: dict[str, int] = field(default_factory=dict)

    def change(self, by: int) -> None:
        now = time.monotonic()
        self._area += self.in_flight * (now - self._since)
        self._since = now
        self.in_flight += by

    async def tick(self) -> None:
        """Take notes for ever."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            self.change(0)
            now = time.monotonic()
            counts = {name: n - self._reported.get(name, 0) for name, n in self.total.items()}
            self._reported = dict(self.total)
            self.ticks.append({"at": now, "in_flight": self._area / (now - began), **counts})
            self._area, began = 0.0, now

    async def refill(self) -> None:
        """Let as many in as there may come every second."""
        rate = self.settings.per_second or 0.0
        step = 0.005
        while True:
            await asyncio.sleep(step)
            self._tokens = min(rate * BURST, self._tokens + rate * step)

    def verdict(self) -> str:
        """What a request meets: an ``answer``, a ``refusal``, an ``error`` or a ``reset``."""
        s = self.settings
        if s.capacity is not None and self.in_flight >= s.capacity:
            return "refusal"
        if s.per_second is not None:
            if self._tokens < 1:
                return "refusal"
            self._tokens -= 1
        draw = self._rng.random() if s.errors or s.resets else 1.0
        if draw < s.errors:
            return "error"
        return "reset" if draw < s.errors + s.resets else "answer"


class Connection(asyncio.Protocol):
    """One connection: requests come one after the other."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(self._buffer, 0, end)
        length = int(found[1]) if found else 0
        if len(self._buffer) >= end + 4 + length:
            head, body = self._buffer[:end], self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self._write(_ok(json.dumps({**self._model.total, "ticks": self._model.ticks})))
            return
        if self._model.log is not None:
            self._model.log.write(key_of(self._model.where, body, 0) + "\n")
        verdict = self._model.verdict()
        if verdict == "refusal":
            self._model.total["refused"] += 1
            self._write(_error(429))
            return
        self._model.change(1)
        if self._model.settings.latency:
            loop = asyncio.get_running_loop()
            loop.call_later(self._model.settings.latency, self._finish, verdict, body)
        else:
            self._finish(verdict, body)

    def _finish(self, verdict: str, body: bytes) -> None:
        self._model.change(-1)
        if verdict == "error":
            self._write(_error(500))
        elif verdict == "reset" and self._transport is not None:
            self._transport.abort()
        else:
            self._model.total["answered"] += 1
            self._write(_ok(completion(body)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def completion(body: bytes) -> str:
    """The answer to a request: the same for the same request."""
    turn = body[body.rfind(b'"role": "user"') :]
    if b'"name": "Labels"' in body[-1024:]:
        found = _TOLD.search(turn)
        word = found[1] if found else b"\0"
        labels = [int(word in _judged(text)) for text in _NUMBERED.split(turn)[1:]]
        content = json.dumps({"labels": labels})
    else:
        ((word, _),) = Counter(_MARKED.findall(turn) or [b"nothing"]).most_common(1)
        description = f"Tokens like @{word.decode()}@, in texts of kind {zlib.crc32(turn):x}."
        meaning = {"description": description, "label": "tokens"}
        content = json.dumps({"explanations": [meaning]})
    logprobs = _logprobs(content) if b'"logprobs": true' in body else "null"
    prompt, completion = len(body) // 4, len(content) // 4 + 1
    return _BODY.format(
        content=json.dumps(content),
        logprobs=logprobs,
        prompt=prompt,
        completion=completion,
        total=prompt + completion,
    )


def _judged(text: bytes) -> bytes:
    """What of a text is to be judged: what is marked, if anything is."""
    return b" ".join(_FUZZED.findall(text)) or text


def _logprobs(content: str) -> str:
    """Of tokens of up to three characters, none of which holds two labels."""
    entries: list[dict[str, Any]] = []
    for token in re.findall(r"\d|\D{1,3}", content):
        top = [{"token": t, "logprob": p, "bytes": None} for t, p in ((token, -0.1), ("1", -2.4))]
        entries.append({"token": token, "logprob": -0.1, "bytes": None, "top_logprobs": top})
    return json.dumps({"content": entries})


def _ok(text: str) -> bytes:
    data = text.encode()
    return _OK % (len(data), data)


def _error(status: int) -> bytes:
    data = b'{"error": {"message": "come back later"}}'
    return _ERROR % (status, len(data), data)


async def serve(settings: Settings, port: int) -> None:
    """Serve on a loopback port, any free one if it is 0; print the URL."""
    loop = asyncio.get_running_loop()
    model = Model(settings)
    if settings.log is not None:
        model.log = settings.log.open("a", buffering=1)
    server = await loop.create_server(lambda: Connection(model), "127.0.0.1", port)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    model.where = f"openai {url}"
    print(json.dumps({"url": url}), flush=True)
    tasks = [model.tick(), *([model.refill()] if settings.per_second else [])]
    await asyncio.gather(*tasks)


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The URL of a server in a process of its own, as long as the block lasts."""
    command = [sys.executable, __file__, *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield json.loads(server.stdout.readline())["url"]
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="a language model for benchmarks")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--resets", type=float, default=0.0)
    parser.add_argument("--capacity", type=int)
    parser.add_argument("--per-second", type=float)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = vars(parser.parse_args())
    port = options.pop("port")
    asyncio.run(serve(Settings(**options), port))


if __name__ == "__main__":
    main()
