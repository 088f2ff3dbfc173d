"""A real vLLM server on the CPU, with a small Llama of random weights: no stand-in answers here.

AUTOINTERP_VLLM_PYTHON names the interpreter of an environment with vLLM, as
tools/install_vllm_cpu.sh makes one; by default that of .venv-vllm.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from vllm_model import LABELS, PYTHON, skip_without_vllm, write_model

from autointerp.judges.logprobs import yes_probabilities
from autointerp.llm.client import LLMClient, Message, Reply, Request
from autointerp.llm.echo import EchoLM
from autointerp.llm.opening import open_llms
from autointerp.llm.transport import Server
from autointerp.llm.vllm_server import serving
from autointerp.sections import LLMSection, ServeSection
from autointerp.subject.base_lm import LocalLM
from autointerp.subject.loading import load_subject

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

NO_SERVER = "http://127.0.0.1:9/v1"
T = TypeVar("T")


@dataclass(frozen=True)
class Real:
    """The server, its section, and the loop in which both it and the tests run."""

    section: LLMSection
    servers: Mapping[str, Server]
    runner: asyncio.Runner
    log: Path

    def ask(self, journal: Path, work: Callable[[LLMClient], Coroutine[Any, Any, T]]) -> T:
        return self.runner.run(self._ask(self.servers, journal, work))

    def ask_nobody(self, journal: Path, work: Callable[[LLMClient], Coroutine[Any, Any, T]]) -> T:
        return self.runner.run(self._ask({"judge": NO_SERVER}, journal, work))

    async def _ask(
        self,
        endpoints: Mapping[str, str | Server],
        journal: Path,
        work: Callable[[LLMClient], Awaitable[T]],
    ) -> T:
        sections = {"judge": self.section}
        async with open_llms(sections, journal=journal, endpoints=endpoints) as llms:
            return await work(llms.clients["judge"])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    skip_without_vllm()
    folder = tmp_path_factory.mktemp("vllm")
    write_model(folder / "model")
    serve = ServeSection(
        command=[str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", "{model}"],
        args=["--enforce-eager", "--dtype", "float32", "--max-model-len", "2048"],
    )
    section = LLMSection(backend="vllm", model=str(folder / "model"), serve=serve)
    stack = AsyncExitStack()
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        servers = runner.run(stack.enter_async_context(serving({"judge": section}, folder)))
        try:
            yield Real(section, servers, runner, folder / "vllm-judge.log")
        finally:
            runner.run(stack.aclose())


def question(text: str, **fields: Any) -> Request:
    return Request((Message("system", "You judge texts."), Message("user", text)), **fields)


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended meanwhile


def processes(server: Server) -> dict[int, str]:
    """The server's processes and their commands: those in the group that its watchdog leads."""
    port = server.url.removesuffix("/v1").rpartition(":")[2]
    commands = {int(p.name): command(int(p.name)) for p in Path("/proc").glob("[0-9]*")}
    guarded = [pid for pid, line in commands.items() if f"--port {port} " in line]
    group = min(guarded)  # the watchdog, which has the command among its arguments
    return {pid: line for pid, line in commands.items() if line and os.getpgid(pid) == group}


def test_replies_keep_to_the_schema_and_come_back_from_the_journal(
    real: Real, tmp_path: Path
) -> None:
    async def work(client: LLMClient) -> list[Reply]:
        asked = [question(f"text {n}", schema=LABELS, temperature=1, seed=n) for n in range(32)]
        return await asyncio.gather(*map(client.complete, asked))

    began = time.monotonic()
    replies = real.ask(tmp_path / "j.sqlite", work)
    print(f"{len(replies) / (time.monotonic() - began):.1f} requests/s, the first ones")
    for reply in replies:
        assert len(reply.data["labels"]) == 4
        assert set(reply.data["labels"]) <= {0, 1}
        assert reply.data["verdict"] in ("yes", "no", "maybe")
        assert not reply.journaled
    assert len({reply.text for reply in replies}) > 1
    again = real.ask_nobody(tmp_path / "j.sqlite", work)
    assert all(reply.journaled for reply in again)
    assert [reply.data for reply in again] == [reply.data for reply in replies]


def test_prose_without_a_schema(real: Real, tmp_path: Path) -> None:
    async def work(client: LLMClient) -> Reply:
        return await client.complete(question("say something", max_tokens=12))

    reply = real.ask(tmp_path / "j.sqlite", work)
    assert reply.usage.completion_tokens == 12
    assert reply.text
    assert reply.data is None


def test_probabilities_are_shared_among_what_the_schema_allows(real: Real, tmp_path: Path) -> None:
    async def work(client: LLMClient) -> Reply:
        return await client.complete(question("yes or no?", schema=LABELS, top_logprobs=10))

    reply = real.ask(tmp_path / "j.sqlite", work)
    assert reply.logprobs is not None
    said = "".join(token.token for token in reply.logprobs)
    assert said.removesuffix("<|endoftext|>") == reply.text
    choices = 0
    for token in reply.logprobs:
        likely = {text: math.exp(logprob) for text, logprob in token.top}
        assert sum(likely.values()) == pytest.approx(1, abs=1e-3)
        assert likely[token.token] == pytest.approx(math.exp(token.logprob))
        choices += likely[token.token] < 0.999
    assert choices >= 5  # four labels and a verdict
    labels = reply.data["labels"]
    for label, yes in zip(labels, yes_probabilities(reply, labels), strict=True):
        assert yes is not None
        assert 0 < yes < 1
        assert (yes >= 0.5) == bool(label)


def test_a_prefix_is_read_from_the_cache(real: Real, tmp_path: Path) -> None:
    shared = "The latent fires on the names of rivers. " * 40

    async def work(client: LLMClient) -> list[Reply]:
        return [
            await client.complete(question(f"{shared} Text: {text}", max_tokens=4))
            for text in ("the Rhine", "a spoon")
        ]

    first, second = real.ask(tmp_path / "j.sqlite", work)
    assert first.usage.cached_tokens < 100
    assert second.usage.cached_tokens > 0.8 * second.usage.prompt_tokens


@pytest.mark.parametrize("victim", ["VLLM::EngineCore", f"{PYTHON} -m vllm"])
def test_a_killed_server_is_started_again(real: Real, tmp_path: Path, victim: str) -> None:
    (server,) = real.servers.values()
    before = processes(server)
    (doomed,) = (pid for pid, line in before.items() if line.startswith(victim))

    async def work(client: LLMClient) -> list[Reply]:
        asked = [question(f"{victim} {n}", max_tokens=400) for n in range(24)]
        tasks = [asyncio.ensure_future(client.complete(request)) for request in asked]
        await asyncio.wait(tasks, timeout=0.5)
        os.kill(doomed, signal.SIGKILL)
        return await asyncio.gather(*tasks)

    began = time.monotonic()
    replies = real.ask(tmp_path / "j.sqlite", work)
    print(f"{victim} killed: all answered after {time.monotonic() - began:.0f} s")
    assert len(replies) == 24
    assert not set(before) & set(processes(server))


def test_texts_are_as_likely_as_under_the_same_model_here(real: Real, tmp_path: Path) -> None:
    pairs = [
        ("Described: numbers\n", "one two three\n"),
        ("Described: code\n", "def add(a, b):\n    return a + b\n"),
        ("Described: signs\n", "naïve 😀 «quoted»"),
    ]

    async def work(client: LLMClient) -> list[float | str]:
        return await EchoLM(client).logprobs(pairs)

    there = real.ask(tmp_path / "journal.sqlite", work)
    here = LocalLM(load_subject(real.section.model, device="cpu")).measure(pairs)
    assert there == pytest.approx(here, rel=1e-3)
