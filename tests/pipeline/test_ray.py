"""Runs whose models are in Ray workers, against the same runs in one process."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from planted_coders import Planted
from ray_workers import workers
from small_run import contents, left_alone, refusal, settings, start

from autointerp.cli import main
from autointerp.config import load_config
from autointerp.latents import AutointerpError, Explanation
from autointerp.pipeline import cluster as starting
from autointerp.pipeline import ray as engine
from autointerp.pipeline.rows import Scored
from autointerp.sections import EngineSection

ENGINE = "engine={kind: ray, workers: 2}"
needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"
)


def overrides(planted: Planted) -> list[str]:
    """Scorers that need nothing but the store, probes, steering, and likelihoods."""
    return [
        *settings(planted, "alive:2", "alive:2"),
        "explainer={kind: agent}",
        "scorers=[{kind: detection}, {kind: input_score}, {kind: output_score}, {kind: surprisal}]",
    ]


@pytest.fixture(scope="module")
def alone(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return left_alone(tmp_path_factory.mktemp("alone"), overrides(planted))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray, started once for the runs of this module."""
    with starting.started(EngineSection(kind="ray", workers=2)):
        yield


def on_cluster(test: Callable[..., None]) -> Callable[..., None]:
    """A test for where Ray is installed, beside a cluster of two workers."""
    return needs_ray(pytest.mark.slow(pytest.mark.usefixtures("cluster")(test)))


@contextmanager
def killing(times: int, seed: int) -> Iterator[list[int]]:
    """Kill one worker after another meanwhile, at random moments."""
    killed: list[int] = []
    over, random = threading.Event(), Random(seed)

    def kill() -> None:
        while len(killed) < times and not over.wait(random.uniform(0.5, 4.0)):
            if there := workers():
                killed.append(random.choice(there))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def assert_same(run: Path, alone: Path) -> None:
    """The same rows, where texts are measured within the tolerance of another batch."""
    explanations, scores = contents(run)
    expected, expected_scores = contents(alone)
    assert list(map(_said, explanations)) == list(map(_said, expected))
    assert len(scores) == len(expected_scores)
    for one, two in zip(scores, expected_scores, strict=True):
        if one.score.scorer == "detection":  # from the store alone
            assert repr(one) == repr(two)
        assert _named(one) == _named(two)
        for name, metric in two.score.metrics.items():
            ours = one.score.metrics[name].value
            np.testing.assert_allclose(ours, metric.value, rtol=1e-4, atol=1e-9, err_msg=str(two))


def _said(explanation: Explanation) -> Explanation:
    return replace(explanation, details={})


def _named(scored: Scored) -> tuple[Any, ...]:
    score = scored.score
    return score.latent, score.scorer, scored.control, score.status, len(score.outcomes)


@on_cluster
def test_two_workers_give_what_one_process_gives(
    planted: Planted, alone: Path, tmp_path: Path
) -> None:
    assert_same(left_alone(tmp_path, [*overrides(planted), ENGINE]), alone)


@on_cluster
def test_workers_read_the_windows_that_latents_may_share(planted: Planted, tmp_path: Path) -> None:
    often = [latent.index for latent in planted.truth.family("token_set")[:6]]
    chosen = [
        *settings(planted),
        "corpus.tokens=40000",
        f"latents={json.dumps({'a': often})}",
        "scorers=[{kind: discrimination}]",
    ]
    run = left_alone(tmp_path / "two", [*chosen, ENGINE])
    assert_same(run, left_alone(tmp_path / "one", chosen))
    assert {s.score.status for s in contents(run)[1]} == {"scored"}


@on_cluster
def test_workers_that_are_killed_change_nothing(
    planted: Planted, alone: Path, tmp_path: Path
) -> None:
    with killing(times=4, seed=1) as killed:
        run = left_alone(tmp_path, [*overrides(planted), ENGINE])
    assert killed
    assert_same(run, alone)


@on_cluster
def test_what_a_worker_refuses_is_one_line(
    planted: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [*overrides(planted), "subject.coders.a.hook=h.9", "--run", str(tmp_path / "run")]
    assert refusal(capsys, ["run", *wrong, ENGINE]) == refusal(capsys, ["run", *wrong])


@on_cluster
def test_a_pool_calls_each_worker_and_replaces_those_that_die(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options, log = EngineSection(kind="ray", workers=2), tmp_path / "ray.log"
    make = partial(import_module, "os")  # what workers hold may be anything, a module too
    with engine.Pool(options, make, log, lambda *now: told.append(now)) as pool:
        assert told[-1] == (2, 2)
        assert [join("b") for join in pool.each("fsdecode")] == ["b", "b"]
        with pytest.raises(FileNotFoundError, match="nowhere"):
            pool.first("stat", "nowhere")
        leave, _ = pool.each("_exit")
        with pytest.raises(engine.LostError) as lost:
            leave(1)
        until(lost.value.is_back)
        assert [join("b") for join in pool.each("fsdecode")] == ["b", "b"]
        with pytest.raises(AutointerpError, match=r"5 Ray workers died in _exit; see .*ray\.log"):
            pool.first("_exit", 1)
    until(lambda: workers() == [])
    assert "worker died" in log.read_text()


@on_cluster
def test_workers_that_cannot_start_are_told_at_once(tmp_path: Path) -> None:
    options = EngineSection(kind="ray", workers=1)
    with (
        pytest.raises(AutointerpError, match=r"a Ray worker cannot start: .*No module named"),
        engine.Pool(options, only_here, tmp_path / "ray.log", lambda *_: None),
    ):
        pass


def only_here() -> None:
    """Workers, which do not find this module, cannot read it."""


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.05)


@needs_ray
@pytest.mark.slow
def test_an_interrupted_run_ends_its_workers_and_goes_on(
    planted: Planted, alone: Path, tmp_path: Path
) -> None:
    run = ["run", "--json", "--run", str(tmp_path / "run"), *overrides(planted), ENGINE]
    before = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = start(run, before)
    parts = tmp_path / "run" / "examples.parts"
    until(lambda: parts.exists() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert (out, errors.splitlines()[-1]) == (
        "",
        "interrupted; run the same command again to continue",
    )
    assert main(run[:-1]) == 0  # by this process alone
    assert_same(tmp_path / "run", alone)


def test_without_ray_a_run_is_refused_at_once(
    planted: Planted,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(starting, "find_spec", lambda _: None)
    asked = ["run", "--run", str(tmp_path / "run"), *overrides(planted), ENGINE]
    assert "pip install 'autointerp[ray]'" in refusal(capsys, asked)
    assert not list((tmp_path / "run").glob("examples*"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{kind: local, workers: 2}", "workers: only for kind: ray"),
        ("{gpus: 1, address: auto}", "address, gpus: only for kind: ray"),
        ("{kind: ray, workers: 0}", "engine.workers"),
        ("{kind: dask}", "engine.kind"),
    ],
)
def test_options_that_make_no_sense_are_refused(section: str, message: str) -> None:
    with pytest.raises(AutointerpError, match=message):
        load_config(None, [f"engine={section}"])


def test_workers_that_would_share_a_device_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["collect", "--run", str(tmp_path / "run"), ENGINE, "subject.device=cuda:1"]
    assert "set it to auto or cuda" in refusal(capsys, asked)


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1", "nothing"])
def test_a_cluster_that_does_not_answer_is_told_at_once(address: str) -> None:
    section = EngineSection(kind="ray", address=address)
    with (
        pytest.raises(AutointerpError, match="`ray start --head` tells it"),
        starting.started(section),
    ):
        pass
