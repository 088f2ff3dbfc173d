"""Runs that are hit again and again, against one that is left alone: do they end alike?

Usage: python bench/faults.py [LATENTS] [LOOPS]. In every loop (20 of them) a run over the demo's
latents (200), explained by one question each and scored by detection and fuzzing, is hit at random
moments, once by each of these: SIGKILL of the run, SIGKILL of the server that answers (a second
later it is back), and a disk without any room (a small tmpfs, where one can be mounted). What was
stopped is started again. Where Ray is installed, a run that collects and prepares on two workers
loses one of them as well, twice a loop. Prints one JSON object a figure, all of which must be 0:

- ``rows that differ``: explanations, outcomes and scores that are not those of the undisturbed run.
- ``asked again``: requests whose answer was in the journal when the run was started again, or
  that came twice while only workers were lost.
- ``half-written files``: what is left beside finished files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ray_workers import workers

from autointerp.latents import Cost, Label
from autointerp.pipeline.results import Results

LATENTS, LOOPS = 200, 20
TOKENS = 60_000
FAULTS = ("run", "server", "disk")
LOST = 2  # workers, in each loop's run on Ray
WORKERS = {"engine": {"kind": "ray", "workers": 2}}
DISK = 2**26  # bytes
DOWN = 1.0  # seconds without a server
SETTLED = 0.3  # seconds in which what was on its way arrives
LOOPBACK = Path(__file__).with_name("loopback.py")
BEFORE = "import sys; from autointerp.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclass
class Server:
    """The language model: one process after the other, at the same port."""

    log: Path
    port: int = 0
    url: str = ""
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, LOOPBACK, "--port", str(self.port), "--log", str(self.log)]
        self._process = subprocess.Popen(
            [*command, "--latency", "0.01"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["url"]
        self.port = int(self.url.split(":")[2].split("/")[0])

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def asked(self) -> list[str]:
        """The journal's keys of what came, in order."""
        return self.log.read_text().split() if self.log.exists() else []


@dataclass
class World:
    """A run and its journal in one folder."""

    folder: Path
    server: Server
    latents: int
    engine: Mapping[str, Any] = field(default_factory=dict)
    asked_again: int = 0
    failed: list[str] = field(default_factory=list)

    def start(self) -> subprocess.Popen[str]:
        llm = {"model": "bench", "base_url": self.server.url}
        judge = {"kind": "llm", "texts_per_prompt": 50}
        scorers = [{"kind": kind, "judge": judge} for kind in ("detection", "fuzzing")]
        half = {"layers.0": f"alive:{self.latents // 2}", "layers.1": f"alive:{self.latents // 2}"}
        chosen = {
            "corpus.tokens": TOKENS,
            "latents": half,
            "explainer": {"kind": "single_pass"},
            "scorers": scorers,
            "llms": {"explainer": llm, "judge": llm},
            "journal": str(self.folder / "journal.sqlite"),
            **self.engine,
        }
        overrides = [f"{key}={json.dumps(value)}" for key, value in chosen.items()]
        command = [sys.executable, "-c", BEFORE, "run", "--json", "--run", str(self.run)]
        return subprocess.Popen(
            [*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def journaled(self) -> set[str]:
        path = self.folder / "journal.sqlite"
        if not path.exists():
            return set()
        with closing(sqlite3.connect(path)) as connection:
            return {key for (key,) in connection.execute("SELECT key FROM replies")}

    def on(self) -> subprocess.Popen[str]:
        """Start it again, and note what must not be asked any more."""
        self._settle()
        self._known, self._asked = self.journaled(), len(self.server.asked())
        return self.start()

    def count(self) -> None:
        """Count what was asked again since the last start."""
        self._settle()
        self.asked_again += sum(key in self._known for key in self.server.asked()[self._asked :])

    def _settle(self) -> None:
        time.sleep(SETTLED)

    def hit(self, process: subprocess.Popen[str], fault: str) -> subprocess.Popen[str]:
        """Let one thing happen; returns the process that goes on."""
        if fault == "server":
            self.server.kill()
            time.sleep(DOWN)
            self.server.start()
            return process
        if fault == "run":
            process.send_signal(signal.SIGKILL)
            process.communicate()
        else:
            self._fill(process)
        self.count()
        return self.on()

    def _fill(self, process: subprocess.Popen[str]) -> None:
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while process.poll() is None:
                    file.write(b"\0" * 2**16)
            except OSError:
                pass  # there is no room left, as wanted
        _, told = process.communicate()
        if process.returncode and "free some space" not in told:
            self.failed.append(told[-500:])
        filler.unlink()

    def finish(self, process: subprocess.Popen[str]) -> None:
        _, told = process.communicate()
        if process.returncode not in (0, 1):
            self.failed.append(told[-500:])
        self.count()


def rows(run: Path) -> dict[str, Any]:
    """All rows, less costs, and the keys of requests, which hold the server's address."""
    found: dict[str, Any] = {}
    with Results.read(run / "results.sqlite") as results:
        for e in results.explanations(details=True):
            details = {k: v for k, v in e.details.items() if k != "request"}
            found[e.id] = replace(e, cost=Cost(), details=details)
        for s in results.scores(outcomes=True):
            outcomes = [o._replace(request=None) if isinstance(o, Label) else o
                        for o in s.score.outcomes]  # fmt: skip
            score = replace(s.score, cost=Cost(), outcomes=outcomes)
            found[f"{score.explanation} {score.scorer} {s.control}"] = score
    return found


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """A small disk of its own at the folder, where this process may mount one; whether it may."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def disturbed(
    folder: Path, server: Server, latents: int, calm: Path, requests: int, faults: Sequence[str],
    seed: int,
) -> World:  # fmt: skip
    """One run, hit by every fault once, in random order and at random moments."""
    rng = random.Random(seed)
    shutil.copytree(calm / "examples", folder / "run" / "examples")
    world = World(folder, server, latents)
    process, begun = world.on(), len(server.asked())
    for fault in rng.sample(list(faults), len(faults)):
        goal = len(server.asked()) + rng.randint(1, requests // (len(faults) + 1))
        while len(server.asked()) < goal and process.poll() is None:
            time.sleep(0.01)
        process = world.hit(process, fault)
    world.finish(process)
    assert len(server.asked()) > begun
    return world


def bereft(folder: Path, server: Server, latents: int, seed: int) -> World:
    """One run on Ray, from the corpus on, that loses workers at random moments."""
    rng, lost = random.Random(seed), 0
    world, begun = World(folder, server, latents, WORKERS), len(server.asked())
    process = world.on()
    while lost < LOST and process.poll() is None:
        time.sleep(rng.uniform(0.5, 5))
        if there := workers():
            os.kill(rng.choice(there), signal.SIGKILL)
            lost += 1
    if not lost:
        world.failed.append("no worker was seen")
    world.finish(process)
    asked = server.asked()[begun:]
    world.asked_again += len(asked) - len(set(asked))
    return world


def loops(latents: int, count: int) -> Iterator[dict[str, Any]]:
    differ = asked = left = 0
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        server = Server(base / "asked.txt")
        server.start()
        calm = World(base / "calm", server, latents)
        calm.finish(calm.on())
        expected, requests = rows(calm.run), len(server.asked())
        has_ray = importlib.util.find_spec("ray") is not None
        for loop in range(count):
            with disk(base / str(loop)) as small:
                faults = FAULTS if small else FAULTS[:2]
                folder = base / str(loop)
                worlds = [disturbed(folder, server, latents, calm.run, requests, faults, loop)]
                if has_ray:
                    worlds.append(bereft(base / f"workers{loop}", server, latents, loop))
                for world in worlds:
                    found = rows(world.run)
                    keys = expected.keys() | found.keys()
                    differ += sum(expected.get(key) != found.get(key) for key in keys)
                    asked += world.asked_again
                    left += len([*world.run.rglob("*.unfinished"), *world.run.rglob("*.writing")])
                    failed += world.failed
            shutil.rmtree(base / f"workers{loop}", ignore_errors=True)
        server.kill()
    about = {
        "latents": latents,
        "loops": count,
        "faults": [*faults, *["worker"] * has_ray],
        "requests": requests,
    }
    about |= {"rows": len(expected), "unexpected": failed[:3]}
    for figure, value in (("rows that differ", differ), ("asked again", asked),
                          ("half-written files", left)):  # fmt: skip
        yield {"figure": figure, "value": value, "unit": "count", "bar": 0, **about}


def main(latents: int = LATENTS, count: int = LOOPS) -> None:
    os.environ.setdefault("OPENAI_API_KEY", "key-of-the-loopback-server")
    for figure in loops(latents, count):
        print(json.dumps({"bench": "faults", **figure}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
