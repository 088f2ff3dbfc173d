"""A language model server for tests: loopback HTTP, random or scripted answers, faults at will.

In a test: ``with LLMServer(answer=…, faults={"429": 0.1}) as server: … server.url``; the server
runs in a thread of its own. As a process: ``python tests/llm_server.py --faults '{"429": 0.1}'``
prints its URL as one line of JSON and serves until it is stopped; ``GET /stats`` tells its counts.

It answers ``/v1/chat/completions``, ``/v1/completions``, ``/v1/models`` and ``/health``. Without
``answer``, an answer is drawn from a hash of the request: a value that fits its schema, or prose.
A text to echo comes back with the log probabilities of a model that expects words to return.
Which request meets which fault depends on the seed, the request, and how often it was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from llm_values import echoed, logprobs, prose, random_answer, wrong_length

TRANSPORT_FAULTS = ("429", "503", "500", "reset", "hang", "truncated", "empty", "trickle")
CONTENT_FAULTS = ("prose", "wrong_length", "garbage")
SERVED_FAULTS = frozenset({"hang", "truncated", "empty", "trickle", *CONTENT_FAULTS})
LATE = 0.05  # seconds between the bytes of a trickle

Body = dict[str, Any]
Answer = Callable[[Body], Any]


@dataclass
class Stats:
    """What the server has seen. A key is the hash of a request's body.

    ``served`` counts answers that were made, whole or not, whether or not they arrived: what a
    provider would bill. ``faults`` counts by kind, ``arrivals`` are monotonic seconds.
    """

    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    arrivals: list[float] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0

    def as_json(self) -> Body:
        counts = {name: dict(getattr(self, name)) for name in ("asked", "served", "faults")}
        return {**counts, "peak": self.peak}


class LLMServer:
    """Serves on a loopback port. ``answer`` gets the request's body and returns the content: text,
    or a value that is dumped as JSON; it runs on the server's thread.

    ``faults`` are rates by kind (TRANSPORT_FAULTS, CONTENT_FAULTS). ``structured=False`` refuses
    ``response_format`` as servers without structured outputs do. ``api_key`` refuses others;
    ``echo_key`` repeats the key in every error. ``latency`` is in seconds, before each answer.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        latency: float = 0.0,
        retry_after: str = "0",
        structured: bool = True,
        api_key: str | None = None,
        echo_key: bool = False,
        cached_share: float = 0.0,
        port: int = 0,
    ) -> None:
        unknown = set(faults or {}) - {*TRANSPORT_FAULTS, *CONTENT_FAULTS}
        if unknown:
            raise ValueError(f"no such faults: {sorted(unknown)}")
        self.answer, self.faults, self.seed = answer, dict(faults or {}), seed
        self.latency, self.retry_after, self.structured = latency, retry_after, structured
        self.api_key, self.echo_key, self.cached_share = api_key, echo_key, cached_share
        self.port = port
        self.stats = Stats()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read one request and answer it; whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in lines)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1]
        other = await self.other(first.split()[0], path, headers, raw)
        if other is not None:
            status, data = other
            writer.write(_head(status, len(data), {}) + data)
            await writer.drain()
            return True
        if path == "/stats":
            return await _send(writer, 200, self.stats.as_json())
        if path == "/health":
            return await _send(writer, 200, {})
        if path == "/v1/models":
            return await _send(writer, 200, {"object": "list", "data": [{"id": "test"}]})
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return await _send(writer, 404, {"error": {"message": f"no such path {path}"}})
        self.stats.arrivals.append(time.monotonic())
        self.stats.in_flight += 1
        self.stats.peak = max(self.stats.peak, self.stats.in_flight)
        try:
            return await self._complete(raw, headers.get("authorization", ""), writer)
        finally:
            self.stats.in_flight -= 1

    async def other(
        self, method: str, path: str, headers: Mapping[str, str], raw: bytes
    ) -> tuple[int, bytes] | None:
        """The status and body of what another kind of server answers; None for what it does not."""
        return None

    async def _complete(self, raw: bytes, auth: str, writer: asyncio.StreamWriter) -> bool:
        key = hashlib.blake2b(raw, digest_size=10).hexdigest()
        given = auth.removeprefix("Bearer ")
        echo = f" (your key: {given})" if self.echo_key else ""
        if self.api_key is not None and given != self.api_key:
            return await _send(writer, 401, {"error": {"message": f"wrong API key{echo}"}})
        body: Body = json.loads(raw)
        if "response_format" in body and not self.structured:
            message = f"response_format is not supported{echo}"
            return await _send(writer, 400, {"error": {"message": message}})
        fault = self._fault(key)
        self.stats.asked[key] += 1
        if fault is not None:
            self.stats.faults[fault] += 1
        if fault is None or fault in SERVED_FAULTS:
            self.stats.served[key] += 1
        if self.latency:
            await asyncio.sleep(self.latency)
        if fault in ("429", "503", "500"):
            error = {"error": {"message": f"injected {fault}{echo}"}}
            return await _send(writer, int(fault), error, {"Retry-After": self.retry_after})
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "hang":
            await asyncio.sleep(3600)
        return await self._reply(self._completion(body, key, fault), fault, writer)

    async def _reply(self, reply: Body, fault: str | None, writer: asyncio.StreamWriter) -> bool:
        if fault == "empty":
            reply["choices"] = []
        data = json.dumps(reply).encode()
        if fault == "truncated":
            data = data[: len(data) // 2]
        if fault == "trickle":
            writer.write(_head(200, len(data), {}))
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(LATE)
            return True
        writer.write(_head(200, len(data), {}) + data)
        await writer.drain()
        return True

    def _fault(self, key: str) -> str | None:
        if not self.faults:
            return None
        draw = random.Random(f"{self.seed}/{key}/{self.stats.asked[key]}").random()
        for kind, rate in self.faults.items():
            if draw < rate:
                return kind
            draw -= rate
        return None

    def _completion(self, body: Body, key: str, fault: str | None) -> Body:
        content = self._content(body, key, fault)
        size = len(json.dumps(body.get("messages", body.get("prompt"))))
        usage: Body = {"prompt_tokens": size // 4, "completion_tokens": len(content) // 4 + 1}
        usage["total_tokens"] = sum(usage.values())
        cached = int(usage["prompt_tokens"] * self.cached_share)
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
        choice: Body = {"index": 0, "finish_reason": "stop"}
        if "messages" in body:
            choice["message"] = {"role": "assistant", "content": content}
        else:
            choice["text"] = content
        if body.get("echo"):
            choice |= {"text": body["prompt"], "logprobs": echoed(body["prompt"])}
        elif body.get("logprobs"):
            choice["logprobs"] = {"content": logprobs(content, body.get("top_logprobs", 0), key)}
        return {
            "id": f"chatcmpl-{key}",
            "object": "chat.completion" if "messages" in body else "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }

    def _content(self, body: Body, key: str, fault: str | None) -> str:
        rng = random.Random(f"{self.seed}/{key}")
        if fault == "prose":
            return prose(rng)
        if fault == "garbage":
            return '{"]}[' + prose(rng, 3)
        value = self.answer(body) if self.answer is not None else random_answer(body, rng)
        if fault == "wrong_length":
            value = wrong_length(json.loads(value) if isinstance(value, str) else value)
        return value if isinstance(value, str) else json.dumps(value)


def _head(status: int, length: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(
    writer: asyncio.StreamWriter, status: int, value: Body, headers: Mapping[str, str] | None = None
) -> bool:
    data = json.dumps(value).encode()
    writer.write(_head(status, len(data), headers or {}) + data)
    await writer.drain()
    return True


async def _serve(server: LLMServer) -> None:
    await server.start()
    print(json.dumps({"url": server.url}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="a language model server for tests")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=json.loads, default={})
    options = parser.parse_args()
    asyncio.run(_serve(LLMServer(**vars(options))))


if __name__ == "__main__":
    main()
