"""A push that is killed in the middle ends, when it is run again, where it would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from export.published_run import contents, exported, make_run
from hub_server import TOKEN, HubServer

from autointerp.latents import Explanation, LatentId

NAME = "me/explanations"


def start(run: Path, hub: HubServer) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-m", "autointerp", "push", str(run), "--yes", "--repo", NAME]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("at", [("PUT", 2), ("commit", 1), ("commit", 2)])
def test_a_killed_push_goes_on(tmp_path: Path, at: tuple[str, int]) -> None:
    run = make_run(
        tmp_path / "run",
        [Explanation(LatentId(f"layers.{i}", i), f"text {i}", "agent") for i in range(2)],
    )
    with HubServer({at: "hang"}) as hub:
        killed = start(run, hub)
        assert hub.state.reached.wait(60)
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        hub.state.faults.clear()
        finished = start(run, hub)
        told, _ = finished.communicate(timeout=60)
        assert finished.returncode == 0, told
        held = hub.contents(NAME)
        del held[".gitattributes"]
        assert held == contents(run / "export" / "hub")
        assert held.keys() == contents(exported(run, tmp_path / "alone")).keys()
        assert len(hub.state.puts) == len(set(hub.state.puts)) == 2
        assert len(hub.state.repositories[NAME].commits) == 2
