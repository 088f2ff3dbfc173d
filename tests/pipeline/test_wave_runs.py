"""Whole runs whose questions go out in waves."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from batch_server import BatchServer
from llm_models import Model
from llm_runs import World, check_complete, rows, world
from planted_coders import Planted
from small_run import refusal, start

from autointerp.cli import main

IN_WAVES = [
    f"llms.{name}.{option}"
    for name in ("explainer", "judge")
    for option in ("backend=openai-batch", "batch={poll_seconds: 0.01, idle_seconds: 0.2}")
]
STORM = ("expired", None, "errors", "lost", "429")
EXPLAINER = "explainer={kind: single_pass}"

pytestmark = pytest.mark.usefixtures("at_once")


def in_waves(world: World, server: BatchServer) -> list[str]:
    return world.command(server, EXPLAINER, *IN_WAVES)


def test_a_run_in_waves_is_the_run_at_once_and_takes_two(
    tmp_path: Path, planted: Planted, collected: Path
) -> None:
    one, many = (world(tmp_path / name, planted, collected) for name in ("waves", "single"))
    with BatchServer(Model(), online=True) as server:
        assert main(in_waves(one, server)) == 0
        assert len(server.batches) == 2  # explanations; then all scores, of the controls too
        assert len(server.stats.served) == sum(server.sizes)
        assert main(many.command(server, EXPLAINER)) == 0
    assert rows(one.run) == rows(many.run)
    check_complete(one.run)


@pytest.mark.slow
def test_killed_again_and_again_nothing_is_asked_twice(
    tmp_path: Path, planted: Planted, collected: Path
) -> None:
    calm, stormy = (world(tmp_path / name, planted, collected) for name in ("calm", "stormy"))
    with BatchServer(Model()) as server:
        assert main(in_waves(calm, server)) == 0
    with BatchServer(Model(), looks=20, fates=STORM) as server:
        command = in_waves(stormy, server)
        for looks in (1, 12, 18):
            kill_at_look(command, server, looks)
        assert main(command) == 0
        assert max(server.stats.served.values()) == 1
        spent, maybe = stormy.accounts()
        assert (spent.requests, maybe.requests) == (len(server.stats.served), 0)
    assert rows(stormy.run) == rows(calm.run)


def kill_at_look(command: list[str], server: BatchServer, looks: int) -> None:
    """Start the command, and kill it once it has looked so often at batches, if it still runs."""
    process = start(command)
    goal = sum(batch.looks for batch in server.batches.values()) + looks
    while process.poll() is None and sum(b.looks for b in server.batches.values()) < goal:
        time.sleep(0.002)
    process.kill()
    process.communicate()


REFUSED = {
    "explainer={kind: agent, roles: llm}": ("26 questions", "26 explainer.seconds=2246400"),
    "explainer={kind: single_pass, revise: true}": ("3 questions", "explainer.batch.allow_waves=3"),
    "explainer={tiers: [{kind: pattern}, {kind: single_pass}]}": ("3 questions", "allow_waves=3"),
    "scorers=[{kind: detection, judge: llm, sequential: true}]": ("scorers.0", "allow_waves=9"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_more_waves_than_are_allowed_are_refused_with_their_number(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = {"model": "m", "backend": "openai-batch", "base_url": "http://127.0.0.1:9/v1"}
    said = refusal(
        capsys,
        ["run", "--run", str(tmp_path), EXPLAINER, "scorers=[{kind: detection, judge: llm}]",
         f"llms={json.dumps({'explainer': llm, 'judge': llm})}", kind],
    )  # fmt: skip
    assert all(part in said for part in REFUSED[kind]), said
