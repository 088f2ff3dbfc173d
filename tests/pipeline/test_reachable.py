"""A server that is away is told before any work, in one line."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from llm_server import LLMServer
from planted_coders import Planted
from small_run import document, refusal, settings

from autointerp.cli import main
from autointerp.latents import AutointerpError
from autointerp.llm.reachable import check_reachable
from autointerp.sections import LLMSection


def nowhere() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_only_servers_that_are_asked_and_given_are_looked_at(tmp_path: Path) -> None:
    away = LLMSection(model="m", base_url=nowhere())
    with LLMServer() as server:
        sections = {"here": LLMSection(model="m", base_url=server.url), "away": away}
        sections["openai"] = LLMSection(model="gpt-5-mini")
        check_reachable(sections, ["here", "openai"], tmp_path / "journal.sqlite")
        with pytest.raises(
            AutointerpError, match=r"llms\.away: nobody answers for m at http.*fused"
        ):
            check_reachable(sections, ["here", "away"], tmp_path / "journal.sqlite")
        assert not server.stats.asked
    assert not list(tmp_path.iterdir())


def test_a_proxy_is_left_to_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    sections = {"judge": LLMSection(model="m", base_url="https://x.invalid/v1")}
    check_reachable(sections, ["judge"], tmp_path / "journal.sqlite")


@pytest.mark.usefixtures("at_once")
def test_a_run_is_refused_before_it_collects_unless_its_model_is_in_the_journal(
    tmp_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    with LLMServer() as server:
        url = server.url
        chosen = [
            *settings(planted, "alive:2", "0"),
            "scorers=[{kind: detection, judge: llm}]",
            f"llms={json.dumps({'judge': {'model': 'test', 'base_url': url}})}",
            f"journal={json.dumps(str(tmp_path / 'journal.sqlite'))}",
        ]
        away = [*chosen, f"llms.judge.base_url={nowhere()}"]
        said = refusal(capsys, ["run", "--run", str(run), *away])
        assert "llms.judge: nobody answers for test" in said
        assert not run.exists()
        assert main(["collect", "--json", "--run", str(run), *away]) == 0  # asks nobody
        capsys.readouterr()
        first = document(capsys, "run", "--run", str(run), *chosen)
    replayed = document(capsys, "run", "--run", str(again), *chosen)
    assert replayed["scores"]["detection"]["mean"] == first["scores"]["detection"]["mean"]
