"""API keys: where they come from, and where they never go."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from llm_asking import ask_one, asking, question, run
from llm_server import LLMServer

from autointerp.latents import AutointerpError
from autointerp.llm.client import LLMFailure

KEY = "sk-planted-0123456789abcdef"


def test_a_missing_key_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    section = {"base_url": "https://llm.invalid/v1", "api_key_env": "NO_SUCH_KEY"}
    with LLMServer() as server, pytest.raises(AutointerpError, match="NO_SUCH_KEY is not set"):
        run(server, tmp_path, asking([]), **section)


@pytest.mark.parametrize("faults", [{}, {"500": 1.0}, {"429": 1.0}], ids=["401", "500", "429"])
def test_the_key_reaches_no_file_log_or_message(
    faults: dict[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    wanted = KEY if faults else "another"
    with LLMServer(faults=faults, api_key=wanted, echo_key=True) as server:
        (error,) = run(
            server, tmp_path, asking([question("a")]), api_key_env="PLANTED_KEY", max_tokens=9
        )
        assert isinstance(error, LLMFailure if faults else AutointerpError)
        seen = error
        while seen is not None:
            assert KEY not in str(seen) + repr(seen)
            seen = seen.__cause__ or seen.__context__
    assert "[API key]" in str(error)
    assert KEY not in caplog.text
    for path in tmp_path.rglob("*"):
        assert KEY.encode() not in path.read_bytes()


def test_the_key_in_an_answer_is_not_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    with LLMServer(answer=lambda body: f"your key is {KEY}", api_key=KEY) as server:
        reply = ask_one(server, tmp_path, question("a"), api_key_env="PLANTED_KEY")
    assert reply.text == "your key is [API key]"
    for path in tmp_path.rglob("*"):
        assert KEY.encode() not in path.read_bytes()


def test_a_stopgap_of_a_key_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", "e")
    with LLMServer(answer=lambda body: "the letter e") as server:
        reply = ask_one(server, tmp_path, question("a"), api_key_env="PLANTED_KEY")
    assert reply.text == "the letter e"
