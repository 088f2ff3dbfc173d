"""Latents a second: evidence and TEST set built whole, and each rendered into one prompt.

Usage: python bench/evidence.py [TOKENS] [LATENTS]. Prints one JSON object; building the example
store and the hard negatives is not timed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from statistics import median

import numpy as np

from autointerp.examples.harvest import collect
from autointerp.examples.options import CorpusOptions, ExampleOptions
from autointerp.examples.sampling import BLOCK, evidences, labelled_sets, prepare, spare_collector
from autointerp.examples.store import ExampleStore
from autointerp.latents import Evidence, Example, LabelledSet, LatentId
from autointerp.subject.checkpoints import load_coder
from autointerp.subject.loading import DEMO, load_subject

CODERS = ("layers.0", "layers.1")
REPEATS = 5
SHOWN = 40  # windows in the prompt of an explainer
JUDGED = 20  # windows in the prompt of a judge: 10 active, 5 random, 5 hard


def some_latents(store: ExampleStore, count: int) -> list[LatentId]:
    """A uniform sample of the live latents of every coder."""
    random = np.random.default_rng(0)
    return [
        LatentId(name, int(index))
        for name in CODERS
        for index in random.choice(
            np.flatnonzero(np.asarray(store.statistics(name).firing_count)),
            count // len(CODERS),
            replace=False,
        )
    ]


def text(example: Example) -> str:
    return "".join(example.tokens)


def explainer_prompt(shown: Evidence) -> str:
    """The strongest windows, and windows drawn from all strengths."""
    examples = shown.top[: SHOWN // 2] + shown.sampled[:: max(1, len(shown.sampled) * 2 // SHOWN)]
    lines = [f"{example.maximum:.2f}\t{text(example)}" for example in examples]
    return f"Latent {shown.latent}\n" + "\n".join(lines)


def judge_prompt(labelled: LabelledSet) -> str:
    """One block of a detection scorer: windows from the whole set."""
    items = labelled.items[:: max(1, len(labelled.items) // JUDGED)]
    return "\n".join(f"{n}. {text(item.example)}" for n, item in enumerate(items))


def built(store: ExampleStore, latents: list[LatentId]) -> float:
    """Seconds to build and render everything for these latents, a block at a time."""
    begin = time.perf_counter()
    for low in range(0, len(latents), BLOCK):
        shown = evidences(store, latents[low : low + BLOCK])
        for seen, labelled in zip(shown, labelled_sets(store, "test", shown), strict=True):
            explainer_prompt(seen)
            judge_prompt(labelled)
    return time.perf_counter() - begin


def main(tokens: int = 500_000, count: int = 256) -> None:
    measure("evidence_per_second", ExampleOptions(), tokens, count)
    measure("evidence_per_second_100_sampled", ExampleOptions(explain_sampled=100), tokens, count)


def measure(figure: str, options: ExampleOptions, tokens: int, count: int) -> None:
    subject = load_subject("demo", context_length=128)
    coders = {
        name: (load_coder(DEMO / "coders" / name), subject.hook_point(name)) for name in CODERS
    }
    with tempfile.TemporaryDirectory() as directory:
        store = collect(subject, coders, CorpusOptions(tokens=tokens), options, directory)
        latents = some_latents(store, count)
        prepare(store, subject, coders, latents)
        built(store, latents[:8])
        spare_collector()  # as the program does before its work
        seconds = [built(store, latents) for _ in range(REPEATS)]
        shown = evidences(store, latents)
        sets = labelled_sets(store, "test", shown)
    found = {
        "bench": "evidence",
        "figure": figure,
        "value": round(len(latents) / median(seconds), 1),
        "unit": "latents/s",
        "latents": len(latents),
        "windows": sum(len(e.top) + len(e.sampled) + len(e.token_matched) for e in shown),
        "items": sum(len(s.items) for s in sets),
        "too_few_examples": sum(s.shortage is not None for s in sets),
        "tokens": store.token_count,
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
