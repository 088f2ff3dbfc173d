"""How fast the viewer answers over a million latents, in how much memory.

Usage: python bench/viewer.py [LATENTS] [QUERIES]. Prints one JSON object a figure. The latents are
made up: explanations of 4 to 24 words that are as frequent as words are (Zipf), in 24 coders, with
two scorers. A process of its own serves them; questions go to it one at a time over loopback, and
no two are the same. Times are those that the client sees; beside them the processor time that the
server took, which other processes on the machine do not change.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from autointerp.report.viewer.building import INDEX
from autointerp.report.viewer.stream import Entry, Headline
from autointerp.report.viewer.writing import Listing, ScorerName, write

LATENTS, QUERIES = 1_000_000, 600
WORDS, ZIPF = 60_000, 1.05
CODERS = 24
SCORERS = {
    "detection": ScorerName("balanced_accuracy", 0.5),
    "fuzzing": ScorerName("accuracy", 0.5),
}
FIRST, REST = "bcdfghjklmnprstvwxyz", ("a", "e", "i", "o", "u", "an", "er", "is", "ol")
SYLLABLES = [consonant + rest for consonant in FIRST for rest in REST]
STATUSES = ("explained", "no_explanation", "dead", "too_few_examples", "failed")
BLOCK = 10_000
SEED = 0

SERVE = """
import sys, time
from pathlib import Path
from autointerp.report.viewer import guard, serving
from autointerp.report.viewer.app import application
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.sides import Shown, Side
side = Side("", Path(sys.argv[1]).parent, Index(Path(sys.argv[1])), None, None)
viewer = application(Shown([side]), guard.hosts_of("127.0.0.1"))

async def timed(scope, receive, send):
    began = time.process_time()
    async def told(message):
        if message["type"] == "http.response.start":
            taken = 1000 * (time.process_time() - began)
            message["headers"] = [*message["headers"], (b"x-cpu", b"%.3f" % taken)]
        await send(message)
    await viewer(scope, receive, told)

listening = serving.listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
serving.serve(timed, listening)
"""


class Answer(NamedTuple):
    """Milliseconds that the client waited and the server worked, and the size of the page."""

    waited: float
    worked: float
    bytes: int


def vocabulary(rng: np.random.Generator) -> list[str]:
    """Distinct made-up words, the commonest short."""
    found: dict[str, None] = {}
    while len(found) < WORDS:
        length = 1 + len(found).bit_length() // 5
        found["".join(rng.choice(SYLLABLES, rng.integers(length, length + 2)))] = None
    return list(found)


def entries(latents: int, words: list[str], rng: np.random.Generator) -> Iterator[Entry]:
    """Latents in the order of coders and indices."""
    shares = 1 / np.arange(1, len(words) + 1) ** ZIPF
    shares /= shares.sum()
    each = -(-latents // CODERS)
    texts = np.array(words, dtype=object)
    for first in range(0, latents, BLOCK):
        size = min(BLOCK, latents - first)
        lengths = rng.integers(4, 25, size)
        drawn = texts[rng.choice(len(words), lengths.sum(), p=shares)]
        parts = np.split(drawn, np.cumsum(lengths)[:-1])
        status = rng.choice(len(STATUSES), size, p=(0.9, 0.04, 0.03, 0.02, 0.01))
        density = 10 ** rng.normal(-3.5, 1, size).clip(-8, -0.3)
        quality = rng.beta(6, 3, size)
        for i, part in enumerate(parts):
            coder, latent = divmod(first + i, each)
            yield entry(f"layers.{coder:02d}", latent, part, status[i], density[i], quality[i])


def entry(coder: str, latent: int, part: Any, status: int, density: float, quality: float) -> Entry:
    scored = status == 0
    values = {"detection": quality, "fuzzing": 0.5 + 0.5 * quality * quality}
    return Entry(
        coder,
        latent,
        STATUSES[status],
        "single_pass",
        " ".join(part) if scored else "",
        density=float(density),
        maximum=10.0,
        headlines={
            name: Headline(float(v), max(0.0, float(v) - 0.1), min(1.0, float(v) + 0.1))
            for name, v in values.items()
            if scored
        },
    )


def questions(
    words: list[str], queries: int, rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    """A kind and an address: each kind of words with and without filters, in every order."""
    sorts = ("detection", "-detection", "fuzzing", "density", "-density", "latent")
    filters = (
        {},
        {"coder": "layers.07"},
        {"score": "detection>=0.8"},
        {"density": "<0.001", "score": "fuzzing<0.7"},
        {"coder": "layers.20", "score": "detection<0.5", "density": ">=0.01"},
    )
    for i in range(queries):
        common, other = (words[k] for k in rng.integers(0, 50, 2))
        rare = words[rng.integers(5_000, WORDS)]
        asked = {
            "none": "",
            "rare": rare,
            "common": common,
            "prefix": f"{common[: rng.integers(1, 4)]}*",
            "two": f"{common} {other}",
            "mixed": f"{rare[:4]}* {common}",
            "phrase": f'"{common} {other}"',
        }
        kind = list(asked)[i % len(asked)]
        place = {"after": int(rng.integers(1, 200_000))} if i % 5 == 4 else {}
        fields = {
            "q": asked[kind],
            "sort": sorts[i % len(sorts)],
            **filters[i % len(filters)],
            **place,
        }
        yield kind, f"/?{urlencode(fields)}"


def figure(name: str, value: float, unit: str, **more: Any) -> None:
    told = {"bench": "viewer", "figure": name, "value": round(value, 4), "unit": unit}
    print(json.dumps({**told, **more}), flush=True)


def resident(pid: int) -> float:
    """The most memory that a process has held, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def ask(port: int, addresses: Iterator[tuple[str, str]]) -> dict[str, list[Answer]]:
    """Every answer, by kind of question."""
    found: dict[str, list[Answer]] = {}
    connection = HTTPConnection("127.0.0.1", port)
    for kind, address in addresses:
        began = time.perf_counter()
        connection.request("GET", address)
        answer = connection.getresponse()
        body = answer.read()
        waited = 1000 * (time.perf_counter() - began)
        assert answer.status == 200, (address, answer.status, body)
        worked = float(answer.headers["x-cpu"])
        found.setdefault(kind, []).append(Answer(waited, worked, len(body)))
    return found


def build(index: Path, latents: int) -> list[str]:
    """Write an index of made-up latents; gives the words of their explanations."""
    rng = np.random.default_rng(SEED)
    words = vocabulary(rng)
    began = time.perf_counter()
    write(index, Listing(entries(latents, words, rng), latents, SCORERS), lambda *_: None)
    figure("build", time.perf_counter() - began, "s", latents=latents)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figure("build memory", peak, "MiB", latents=latents)
    figure("index", index.stat().st_size / latents, "bytes a latent", latents=latents)
    return words


def report(found: dict[str, list[Answer]], latents: int) -> None:
    """The 95th percentile of each kind of question, and more of all together."""
    for kind, answers in found.items():
        p95 = float(np.percentile([answer.waited for answer in answers], 95))
        figure(f"p95 {kind}", p95, "ms", latents=latents, n=len(answers))
    every = [answer for answers in found.values() for answer in answers]
    for share in (50, 95, 99, 100):
        for name in ("waited", "worked"):
            value = float(np.percentile([getattr(answer, name) for answer in every], share))
            figure(f"p{share} {name}", value, "ms", latents=latents, n=len(every))
    largest = max(answer.bytes for answer in every)
    figure("largest page", largest / 1000, "kB", latents=latents)


def main() -> None:
    given = [int(argument) for argument in sys.argv[1:]]
    latents, queries = [*given, LATENTS, QUERIES][:2] if len(given) != 1 else [given[0], QUERIES]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / INDEX
        words = build(index, latents)
        command = [sys.executable, "-c", SERVE, str(index)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            first = ask(port, iter([("first", "/")]))["first"][0]
            found = ask(port, questions(words, queries, np.random.default_rng(SEED + 1)))
            memory = resident(server.pid)
            server.terminate()
    figure("first page", first.bytes / 1000, "kB", latents=latents)
    report(found, latents)
    figure("server memory", memory, "MiB", latents=latents)


if __name__ == "__main__":
    main()
