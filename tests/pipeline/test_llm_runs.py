"""Whole runs over language models that fail or are slow: killed, interrupted, resumed."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from llm_models import Model
from llm_runs import AT_ONCE, EXPLAINERS, Recorder, World, check_complete, killed, rows, world
from llm_server import CONTENT_FAULTS, TRANSPORT_FAULTS
from planted_coders import Planted
from small_run import document, start

from autointerp.cli import main
from autointerp.latents import Explanation, Failure
from autointerp.pipeline.rows import Scored

UNANSWERED = ("hang", "trickle")  # these wait for the client's patience to end
AGAIN = ("reset", "hang", "trickle", "truncated", "empty")  # may be billed, and are sent again
TRANSPORT = {kind: 0.007 if kind in UNANSWERED else 0.031 for kind in TRANSPORT_FAULTS}
QUICK = {kind: rate for kind, rate in TRANSPORT.items() if kind not in UNANSWERED}
MIXED = {
    **{kind: rate / 2 for kind, rate in TRANSPORT.items()},
    **dict.fromkeys(CONTENT_FAULTS, 0.1 / len(CONTENT_FAULTS)),
}
KILLS = 5
PATIENCE = 3.0  # seconds that a client under faults waits for an answer
SECONDS_TO_STOP = 5.0  # two of them until requests in flight are answered

pytestmark = pytest.mark.usefixtures("at_once")


@dataclass(frozen=True)
class Calm:
    """What a run left that nothing befell, and how much it asked."""

    rows: tuple[list[Explanation], list[Scored]]
    requests: int


def killed_often(world: World, server: Recorder, explainer: str, kills: int, requests: int) -> int:
    """Kill the run at seeded moments, resume it, and end it here; how many were in flight then.

    What is in the journal must not be asked for again.
    """
    command = world.command(server, explainer, timeout=PATIENCE)
    moments = random.Random(explainer)
    in_flight = 0
    for _ in range(kills):
        after = moments.randint(1, requests // (kills + 1))
        assert killed(command, server, after, moments.uniform(0, 0.1))
        in_flight += world.in_flight()
        world.check_nothing_asked_again(server)
    assert main(command) in (0, 1)
    world.check_nothing_asked_again(server)
    return in_flight


def check_accounts(world: World, server: Recorder, in_flight: int) -> None:
    spent, maybe = world.accounts()
    served = server.stats.served.total()
    assert server.served_again <= in_flight + server.injected(*AGAIN)
    assert served <= spent.requests + maybe.requests
    assert spent.requests == len(world.answered(server)) == len(server.stats.served)
    explanations, scores = rows(world.run)
    costs = [*(e.cost for e in explanations), *(s.score.cost for s in scores)]
    assert sum(cost.requests for cost in costs) >= spent.requests  # shared answers count for all


@pytest.fixture(scope="module")
def calm(
    planted: Planted, collected: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Calm]:
    """Runs that nothing befalls, by explainer; each is done once."""

    @cache
    def done(name: str) -> Calm:
        alone = world(tmp_path_factory.mktemp(f"calm {name}"), planted, collected)
        with Recorder(Model()) as server:
            assert main(alone.command(server, EXPLAINERS[name])) == 0
            return Calm(rows(alone.run), len(server.seen))

    return done


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("agent", 1),
        pytest.param("agent", KILLS, marks=pytest.mark.slow),
        pytest.param("single_pass", KILLS, marks=pytest.mark.slow),
    ],
)
def test_kills_and_transport_faults_leave_no_trace(
    tmp_path: Path, planted: Planted, collected: Path, calm: Callable[[str], Calm],
    name: str, kills: int,
) -> None:  # fmt: skip
    expected = calm(name)
    stormy = world(tmp_path, planted, collected)
    faults = QUICK if kills == 1 else TRANSPORT
    with Recorder(Model(), faults=faults, retry_after="0.01", latency=0.01) as server:
        in_flight = killed_often(stormy, server, EXPLAINERS[name], kills, expected.requests)
        assert server.injected(*TRANSPORT) > 0.1 * expected.requests
        check_accounts(stormy, server, in_flight)
    assert rows(stormy.run) == expected.rows


def test_what_one_run_has_asked_is_free_for_another(
    tmp_path: Path, planted: Planted, collected: Path
) -> None:
    first, second = (world(tmp_path / name, planted, collected) for name in ("one", "two"))
    with Recorder(Model()) as server:
        assert main(first.command(server, EXPLAINERS["agent"])) == 0
        asked = len(server.seen)
        shared = f"journal={json.dumps(str(first.journal))}"
        assert main(second.command(server, EXPLAINERS["agent"], shared)) == 0
        assert len(server.seen) == asked
    assert rows(second.run) == rows(first.run)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_latent_survives_mixed_faults_and_kills(
    tmp_path: Path, planted: Planted, collected: Path, calm: Callable[[str], Calm], name: str
) -> None:
    stormy = world(tmp_path, planted, collected)
    with Recorder(Model(), faults=MIXED, retry_after="0.01", latency=0.01) as server:
        requests = calm(name).requests
        in_flight = killed_often(stormy, server, EXPLAINERS[name], KILLS, requests)
        check_accounts(stormy, server, in_flight)
        assert set(MIXED) - set(server.stats.faults) <= set(UNANSWERED)  # the rare ones
        check_repairs(stormy, server)
    check_complete(stormy.run)


def check_repairs(world: World, server: Recorder) -> None:
    """One repair for each bad reply; what is bad then too is counted, with its reason."""
    answers = server.answers(world.answered(server))
    bad = [seen for seen in answers if seen.fault in CONTENT_FAULTS]
    repairs = [seen for seen in answers if seen.repair]
    assert len(repairs) == sum(not seen.repair for seen in bad)
    explanations, scores = rows(world.run)
    reasons = [e.reason for e in explanations if e.status == "failed"]
    reasons += [
        event["failure"] for e in explanations for event in e.details.get("events", ())
        if "failure" in event
    ]  # fmt: skip
    reasons += [o.reason for s in scores for o in s.score.outcomes if isinstance(o, Failure)]
    assert all("nor after one repair" in (reason or "") for reason in reasons)
    unmended = [seen for seen in bad if seen.repair]
    assert bool(unmended) >= bool(reasons)


# As a shell starts what ends in "&"; and as those press Ctrl-C who are in a hurry.
IN_BACKGROUND = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
AGAIN_AT_EXIT = """
import atexit, os, signal
atexit.register(os.kill, os.getpid(), signal.SIGINT)
"""
INTERRUPTED = {
    "explain": EXPLAINERS["agent"],
    "score": "explainer={kind: pattern}",
}


@pytest.mark.parametrize(
    ("stage", "how", "before"),
    [
        ("score", signal.SIGINT, AGAIN_AT_EXIT),
        pytest.param("explain", signal.SIGINT, "", marks=pytest.mark.slow),
        pytest.param("explain", signal.SIGTERM, "", marks=pytest.mark.slow),
        pytest.param("explain", signal.SIGTERM, IN_BACKGROUND, marks=pytest.mark.slow),
    ],
    ids=["twice", "ctrl-c", "terminated", "in background"],
)
def test_interrupted_it_awaits_what_was_asked_and_loses_no_answer(
    tmp_path: Path, planted: Planted, collected: Path, capsys: pytest.CaptureFixture[str],
    stage: str, how: signal.Signals, before: str,
) -> None:  # fmt: skip
    slowed = world(tmp_path, planted, collected)
    with Recorder(Model(), latency=2.0) as server:
        command = slowed.command(server, INTERRUPTED[stage])
        process = start(command, AT_ONCE + before)
        while len(server.sent) < 6 or not server.quiet(0.3):
            time.sleep(0.01)
            assert process.poll() is None
        sent, in_flight = set(server.sent), server.stats.in_flight
        assert in_flight >= 6
        began = time.monotonic()
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < SECONDS_TO_STOP
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        assert errors.splitlines()[-1] == "interrupted; run the same command again to continue"
        assert document(capsys, "status", str(slowed.run))["stage"] == stage
        assert sent <= slowed.answered(server)
        assert slowed.in_flight() == 0  # all had their answers before it ended
        slowed.check_nothing_asked_again(server)
        server.latency = 0.0
        assert main(command) == 0
        slowed.check_nothing_asked_again(server)
        check_accounts(slowed, server, in_flight)
    check_complete(slowed.run)
