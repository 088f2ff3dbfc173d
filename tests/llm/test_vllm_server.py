"""Servers that a run starts: they come up, come back, and never outlive the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from autointerp.latents import AutointerpError
from autointerp.llm import vllm_server
from autointerp.llm.client import Message, Request
from autointerp.llm.limits import Backoff
from autointerp.llm.opening import LLMs, open_llms
from autointerp.llm.vllm_server import Starting, serving
from autointerp.sections import LLMSection, ServeSection

COMMAND = [sys.executable, str(Path(__file__).parent / "fake_vllm.py")]
SOON = Backoff(base=0.3, attempts=8)  # a server's death shows after a fraction of a second
GONE_SECONDS = 15


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fake servers write down how they were started."""
    path = tmp_path / "record.jsonl"
    monkeypatch.setenv("FAKE_VLLM_RECORD", str(path))
    return path


def started(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()]


def section(**serve: Any) -> LLMSection:
    fields = {"command": COMMAND, **serve}
    return LLMSection(backend="vllm", model="test", serve=ServeSection(**fields))


def question(text: str) -> Request:
    return Request((Message("user", text),))


async def say(llms: LLMs, name: str, text: str) -> list[str]:
    """The server's process id, and the text again."""
    reply = await llms.clients[name].complete(question(text))
    return reply.text.split(" ", 1)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_gone(pids: list[int]) -> None:
    ended = time.monotonic() + GONE_SECONDS
    while any(map(is_running, pids)):
        assert time.monotonic() < ended, f"still running: {[p for p in pids if is_running(p)]}"
        time.sleep(0.05)


def test_it_serves_and_is_gone_afterwards_with_all_below_it(tmp_path: Path, record: Path) -> None:
    seen: list[Starting] = []

    async def work() -> str:
        sections = {"judge": section()}
        async with serving(sections, tmp_path, seen.append) as servers:
            url = servers["judge"].url
            async with open_llms(
                sections, journal=tmp_path / "j.sqlite", endpoints=servers
            ) as llms:
                assert (await say(llms, "judge", "hello"))[1] == "hello"
            return url

    url = asyncio.run(work())
    (start,) = started(record)
    assert_gone(start["pids"])
    assert seen[0].name == "judge"
    assert "Starting to load" in (tmp_path / "vllm-judge.log").read_text()
    argv = start["argv"]
    assert argv[0] == "test"
    assert argv[-4:-1] == ["--host", "127.0.0.1", "--port"]
    assert url == f"http://127.0.0.1:{argv[-1]}/v1"
    assert "--enable-prefix-caching" in argv
    whitespace = argv[argv.index("--structured-outputs-config") + 1]
    assert json.loads(whitespace)["disable_any_whitespace"] is True
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", int(argv[-1])))


def test_equal_sections_share_a_server(tmp_path: Path, record: Path) -> None:
    async def work() -> list[str]:
        sections = {
            "judge": section(),
            "explainer": section(),
            "other": section(args=["--max-model-len", "64"]),
            "elsewhere": LLMSection(model="m", base_url="http://127.0.0.1:9/v1"),
        }
        async with serving(sections, tmp_path) as servers:
            assert sorted(servers) == ["explainer", "judge", "other"]
            journal = tmp_path / "j.sqlite"
            async with open_llms(sections, journal=journal, endpoints=servers) as llms:
                return [(await say(llms, name, name))[0] for name in servers]

    one, same, other = asyncio.run(work())
    assert one == same != other
    assert len(started(record)) == 2


def test_a_server_that_dies_at_start_is_one_clear_line(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM_BROKEN", str(tmp_path))

    async def work() -> None:
        async with serving({"judge": section()}, tmp_path):
            pytest.fail("it came up")

    with pytest.raises(AutointerpError) as caught:
        asyncio.run(work())
    assert str(caught.value) == (
        "llms.judge: the vLLM server died as it started (exit status 1): ValueError:"
        " No memory for the cache"
        f" (log: {tmp_path / 'vllm-judge.log'})"
    )
    assert_gone(started(record)[0]["pids"])


def test_a_server_that_is_too_slow_is_stopped(tmp_path: Path, record: Path) -> None:
    async def work() -> None:
        slow = section(args=["--hang"], startup_minutes=0.01)
        async with serving({"judge": slow}, tmp_path):
            pytest.fail("it came up")

    with pytest.raises(AutointerpError, match=r"within 0.01 minutes .*: Starting to load .* \(log"):
        asyncio.run(work())
    assert_gone(started(record)[0]["pids"])


def test_a_missing_program_is_told_before_anything_starts(tmp_path: Path) -> None:
    async def work() -> None:
        async with serving({"judge": section(command=["no-such-vllm", "serve"])}, tmp_path):
            pytest.fail("it came up")

    with pytest.raises(AutointerpError, match=r"no program 'no-such-vllm'.*serve\.command"):
        asyncio.run(work())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("victim", ["server", "watchdog"])
def test_a_server_that_dies_in_the_middle_comes_back(
    victim: str, tmp_path: Path, record: Path
) -> None:
    async def work() -> list[list[str]]:
        sections = {"judge": section()}
        async with serving(sections, tmp_path) as servers:
            journal = tmp_path / "j.sqlite"
            async with open_llms(
                sections, journal=journal, endpoints=servers, backoff=SOON
            ) as llms:
                before = await say(llms, "judge", "before")
                server = int(before[0])
                # Its watchdog leads the process group.
                os.kill(server if victim == "server" else os.getpgid(server), signal.SIGKILL)
                at_once = await asyncio.gather(*(say(llms, "judge", f"{n}") for n in range(20)))
                while len(started(record)) < 2:
                    await asyncio.sleep(0.05)
                return [before, *at_once, await say(llms, "judge", "after")]

    replies = asyncio.run(work())
    assert [text for _, text in replies] == ["before", *map(str, range(20)), "after"]
    first, second = started(record)
    assert first["argv"] == second["argv"]  # the same port too
    assert [replies[0][0], replies[-1][0]] == [str(start["pids"][0]) for start in (first, second)]
    assert_gone([*first["pids"], *second["pids"]])


def test_a_server_that_keeps_dying_ends_the_run_with_a_line(
    tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    monkeypatch.setenv("FAKE_VLLM_BROKEN", str(broken))

    async def work() -> None:
        sections = {"judge": section()}
        async with serving(sections, tmp_path) as servers:
            journal = tmp_path / "j.sqlite"
            async with open_llms(
                sections, journal=journal, endpoints=servers, backoff=SOON
            ) as llms:
                broken.touch()
                await say(llms, "judge", "die")

    with pytest.raises(
        AutointerpError, match=r"started .*: ValueError: No memory .*; it died 4 times$"
    ):
        asyncio.run(work())
    starts = started(record)
    assert len(starts) == vllm_server.MOST_DEATHS
    assert_gone([pid for start in starts for pid in start["pids"]])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_it_does_not_outlive_its_run(number: int, tmp_path: Path, record: Path) -> None:
    run = [sys.executable, str(Path(__file__).parent / "vllm_run.py"), str(tmp_path), *COMMAND]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "READY\n"
        pids = started(record)[0]["pids"]
        assert all(map(is_running, pids))
        parent.send_signal(number)
        assert_gone(pids)


def test_a_failure_in_the_run_stops_the_server(tmp_path: Path, record: Path) -> None:
    async def work() -> None:
        async with serving({"judge": section()}, tmp_path):
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(work())
    assert_gone(started(record)[0]["pids"])


def test_being_cancelled_as_it_starts_stops_the_server(tmp_path: Path, record: Path) -> None:
    async def work() -> None:
        async with serving({"judge": section(args=["--hang"])}, tmp_path):
            pytest.fail("it came up")

    async def main() -> None:
        task = asyncio.ensure_future(work())
        while not record.exists():
            await asyncio.sleep(0.02)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert_gone(started(record)[0]["pids"])
