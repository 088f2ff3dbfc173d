"""Made-up latents for the viewer's tests, and a viewer of them without a run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline.fired import Reading
from autointerp.report.viewer import guard
from autointerp.report.viewer.app import application
from autointerp.report.viewer.building import INDEX, signature
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.pairs import Pairs
from autointerp.report.viewer.sides import Shown, Side
from autointerp.report.viewer.stream import Entry, Headline
from autointerp.report.viewer.writing import Listing, ScorerName, write

SCORERS = {
    "detection": ScorerName("balanced_accuracy", 0.5),
    "fuzzing": ScorerName("accuracy", 0.5),
}
WORDS = ["alpha", "beta", "gamma", "delta", "été", "alphabet", "x", "im", "import", "the", "of"]
STATUSES = ("explained", "explained", "explained", "no_explanation", "dead")
HOSTILE = (
    "<script>alert(1)</script> & \"quotes\" 'single' </title> **markdown** [link](javascript:1)\n"
    "second line \u05e9\u05dc\u05d5\u05dd \u202e override \U0001f600 \x00\x1b"
)


def entry(coder: str, latent: int, text: str = "alpha", **more: Any) -> Entry:
    return Entry(
        coder, latent, **{"status": "explained", "explainer": "agent", "text": text, **more}
    )


def headline(value: float) -> Headline:
    return Headline(value, max(0.0, value - 0.1), min(1.0, value + 0.1))


def some(count: int, seed: int = 0) -> list[Entry]:
    """Latents of three coders with words, scores and densities drawn at random."""
    rng = random.Random(seed)
    return [_drawn(f"c{n % 3}", n // 3, rng) for n in sorted(range(count), key=lambda n: n % 3)]


def _drawn(coder: str, latent: int, rng: random.Random) -> Entry:
    status = rng.choice(STATUSES)
    names = [name for name in SCORERS if status == "explained" and rng.random() < 0.8]
    return entry(
        coder,
        latent,
        " ".join(rng.choices(WORDS, k=rng.randint(1, 6))) if status == "explained" else "",
        status=status,
        effect=rng.choice(["", "beta"]),
        density=rng.choice([0.0, 10 ** rng.uniform(-7, 0)]),
        maximum=4.0,
        headlines={
            name: headline(rng.choice([0.0, 0.5, 0.7, 0.9, 1.0, rng.random()])) for name in names
        },
    )


def index_of(folder: Path, listed: Iterable[Entry], name: str = INDEX) -> Index:
    """An index of these latents, of a folder of its own."""
    folder.mkdir(exist_ok=True)
    made = Listing(listed, 1, SCORERS, {"c0": "h.0.output"})
    write(folder / name, made, lambda *_: None, signature(folder))
    return Index(folder / name)


class NoLive:
    """Stands for a subject that is not here."""

    def fire(self, text: str) -> Reading:
        raise AutointerpError(f"no subject reads {text!r}")

    def nearest(self, latent: LatentId) -> list[tuple[LatentId, float]]:
        raise AutointerpError("no coder is here")


def document_of(index: Index, latent: LatentId) -> dict[str, Any]:
    """What ``show`` would say of a latent that was scored and tested."""
    row = index.latent(latent)
    assert row is not None
    score = {"metric": "balanced_accuracy", "value": 0.7, "low": 0.6, "high": 0.8, "chance": 0.5}
    text = {"tokens": ["a", row.text], "contradicts": ["h1"]}
    hypothesis = {"id": "h1", "text": row.text, "state": "confirmed", "hits": [1, 2]}
    return {
        "explainer": row.explainer,
        "reason": row.reason,
        "output_explanation": None,
        "components": [row.text, row.text],
        "scores": {
            "detection": {**score, "status": "scored", "reason": None, "judge": "pattern"}
            | {"controls": {"shuffled": 0.5}}
        },
        "statistics": {"top_tokens": [[row.text, 3]], "logit_lens": [row.text]},
        "notice": None,
        "examples": [{**text, "activations": [0.0, 2.0], "split": "test"}],
        "hypotheses": [{**hypothesis, "rejections": [2, 2]}],
        "probes": [
            {**text, "id": "p1", "reading": "on", "levels": [0, 10]}
            | {"predictions": {"h1": "off", "h2": "abstain"}}
        ],
    }


def side_of(folder: Path, listed: Iterable[Entry], root: str = "") -> Side:
    index = index_of(folder, listed)
    return Side(root, folder, index, lambda latent: document_of(index, latent), NoLive())


def client_of(sides: Sequence[Side], paired: bool = True) -> TestClient:
    """A browser's requests to a viewer of these runs, which listens on loopback."""
    pairs = None
    if len(sides) == 2:
        pairs = Pairs(sides[0].run / INDEX, sides[1].run / INDEX, "detection")
    shown = Shown(sides, pairs, paired)
    app = application(shown, guard.hosts_of("127.0.0.1"))
    return TestClient(app, base_url="http://localhost:8000")
