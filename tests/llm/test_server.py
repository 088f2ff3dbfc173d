"""The test server by itself, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

SERVER = Path(__file__).parents[1] / "llm_server.py"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.communicate()


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=10) as answer:
        return json.load(answer)


def test_it_speaks_chats_completions_and_models_and_counts(url: str) -> None:
    assert fetch(f"{url}/models")["data"][0]["id"] == "test"
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    first, again = (fetch(f"{url}/chat/completions", chat) for _ in range(2))
    assert first == again
    assert first["choices"][0]["message"]["content"]
    assert fetch(f"{url}/completions", {"model": "m", "prompt": "x"})["choices"][0]["text"]
    stats = fetch(url.replace("/v1", "/stats"))
    assert sorted(stats["served"].values()) == [1, 2]
