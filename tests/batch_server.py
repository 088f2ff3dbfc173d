"""A server of the Batch API for tests: files, batches, and what may befall them.

Its answers to the lines of a batch are those of :class:`LLMServer` to the same requests. Every
batch meets the next of ``fates``, and after them none:

- ``expired``: half of its requests are answered, the others stand in the error file;
- ``cut``: it expires, and the error file says nothing;
- ``cancelled``: it is cancelled after half of its requests;
- ``failed``: it is refused after it was taken;
- ``queued``: it is refused after it was taken, because too much is queued;
- ``429``: it is not taken now; ``lost``: it is taken, but the answer to that is lost;
- ``500``: neither is it taken; ``errors``: every third of its requests is answered with a 500.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from llm_server import Answer, Body, LLMServer

ENDPOINTS = ("/v1/chat/completions", "/v1/completions")
_EXPIRED = {"code": "batch_expired", "message": "This request could not be executed in time."}


@dataclass
class Batch:
    """A batch as the server has it. ``looks`` counts how often it was looked at."""

    id: str
    file: str
    endpoint: str
    fate: str | None
    metadata: Mapping[str, str]
    lines: list[Body]
    created: float
    status: str = "validating"
    looks: int = 0
    output: str | None = None
    errors: str | None = None

    def as_json(self) -> Body:
        failed = None
        if self.status == "failed":
            queued = self.fate == "queued"
            code = "token_limit_exceeded" if queued else "model_not_found"
            said = "Enqueued token limit reached" if queued else "The model is not supported"
            failed = {"object": "list", "data": [{"code": code, "message": said, "line": 1}]}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "input_file_id": self.file,
            "completion_window": "24h",
            "status": self.status,
            "created_at": int(self.created),
            "output_file_id": self.output,
            "error_file_id": self.errors,
            "errors": failed,
            "metadata": self.metadata,
            "request_counts": {"total": len(self.lines), "completed": 0, "failed": 0},
        }


class BatchServer(LLMServer):
    """``looks`` is how often a batch is looked at before it has ended; ``most_tokens`` (of four
    bytes) may be queued at a time; ``online`` says whether single requests are answered too."""

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        fates: Sequence[str | None] = (),
        looks: int = 1,
        most_tokens: int | None = None,
        online: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(answer, **options)
        self.fates, self.looks = list(fates), looks
        self.most_tokens, self.online = most_tokens, online
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.held = False  # no batch ends meanwhile
        self.refused: Counter[str] = Counter()

    @property
    def sizes(self) -> list[int]:
        """The requests of every batch that was taken, in order."""
        return [len(batch.lines) for batch in self.batches.values()]

    async def other(
        self, method: str, path: str, headers: Mapping[str, str], raw: bytes
    ) -> tuple[int, bytes] | None:
        url = urlsplit(path)
        if url.path in ENDPOINTS and self.online:
            return None
        found = self._route(method, url.path.removeprefix("/v1"), parse_qs(url.query), headers, raw)
        if isinstance(found, int):
            return found, json.dumps({"error": {"message": f"status {found}"}}).encode()
        return 200, found if isinstance(found, bytes) else json.dumps(found).encode()

    def _route(
        self, method: str, path: str, query: Mapping[str, list[str]], headers: Mapping[str, str],
        raw: bytes,
    ) -> Body | bytes | int:  # fmt: skip
        if self.api_key is not None and headers.get("authorization") != f"Bearer {self.api_key}":
            return 401
        if (method, path) == ("POST", "/files"):
            return self._upload(headers["content-type"], raw)
        if (method, path) == ("POST", "/batches"):
            return self._create(json.loads(raw))
        if (method, path) == ("GET", "/batches"):
            return self._list(query)
        if match := re.fullmatch(r"/batches/([^/]+)", path):
            return self._look(match[1])
        if match := re.fullmatch(r"/files/([^/]+)/content", path):
            return self.files.get(match[1], 404)
        return 404

    def _upload(self, kind: str, raw: bytes) -> Body:
        boundary = kind.partition("boundary=")[2].strip('"').encode()
        parts = [part for part in raw.split(b"--" + boundary) if b"filename=" in part]
        content = parts[0].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return {"id": self._keep(content), "object": "file", "purpose": "batch", "created_at": 0}

    def _keep(self, content: bytes) -> str:
        id = f"file-{len(self.files)}"
        self.files[id] = content
        return id

    def _create(self, asked: Body) -> Body | int:
        fate = self.fates.pop(0) if self.fates else None
        if fate in ("429", "500"):
            self.refused[fate] += 1
            return int(fate)
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert {line["url"] for line in lines} == {asked["endpoint"]} <= set(ENDPOINTS)
        assert len({line["custom_id"] for line in lines}) == len(lines)
        assert asked["completion_window"] == "24h"
        if self.most_tokens is not None:
            queued = [b for b in self.batches.values() if not b.status.startswith(("c", "e", "f"))]
            size = sum(len(json.dumps(line)) for b in queued for line in b.lines)
            if size + len(self.files[asked["input_file_id"]]) > 4 * self.most_tokens:
                fate = "queued"
        batch = Batch(
            f"batch-{len(self.batches)}", asked["input_file_id"], asked["endpoint"], fate,
            asked.get("metadata") or {}, lines, time.time(),
        )  # fmt: skip
        self.batches[batch.id] = batch
        return 500 if fate == "lost" else batch.as_json()

    def _list(self, query: Mapping[str, list[str]]) -> Body:
        ids = list(reversed(self.batches))
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        page = ids[start : start + min(2, int(query["limit"][0]))]
        return {"object": "list", "data": [self.batches[id].as_json() for id in page]}

    def _look(self, id: str) -> Body | int:
        batch = self.batches.get(id)
        if batch is None:
            return 404
        batch.looks += 1
        if batch.status == "validating":
            batch.status = "in_progress"
        if batch.looks > self.looks and batch.status == "in_progress" and not self.held:
            self._end(batch)
        return batch.as_json()

    def _end(self, batch: Batch) -> None:
        if batch.fate in ("failed", "queued"):
            batch.status = "failed"
            return
        half = batch.fate in ("expired", "cut", "cancelled")
        done = batch.lines[: len(batch.lines) // 2] if half else batch.lines
        answered, refused = [], []
        for number, line in enumerate(done):
            if batch.fate == "errors" and number % 3 == 0:
                refused.append(_line(line, {"status_code": 500, "body": {"error": "oops"}}, None))
            else:
                answered.append(_line(line, self._response(line["body"]), None))
        if batch.fate == "expired":
            refused = [_line(line, None, _EXPIRED) for line in batch.lines[len(done) :]]
        batch.output = self._keep(b"".join(answered)) if answered else None
        batch.errors = self._keep(b"".join(refused)) if refused else None
        ends = {"expired": "expired", "cut": "expired", "cancelled": "cancelled"}
        batch.status = ends.get(batch.fate or "", "completed")

    def _response(self, body: Body) -> Body:
        raw = json.dumps(body).encode()
        key = hashlib.blake2b(raw, digest_size=10).hexdigest()
        if "response_format" in body and not self.structured:
            said = {"error": {"message": "response_format is not supported"}}
            return {"status_code": 400, "request_id": key, "body": said}
        fault = self._fault(key)
        self.stats.asked[key] += 1
        if fault is not None:
            self.stats.faults[fault] += 1
        self.stats.served[key] += 1
        completion = self._completion(body, key, fault)
        return {"status_code": 200, "request_id": key, "body": completion}


def _line(asked: Body, response: Body | None, error: Body | None) -> bytes:
    answer = {"id": "r", "custom_id": asked["custom_id"], "response": response, "error": error}
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"
