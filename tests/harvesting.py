"""A small harvest of the demo subject by two random coders, for tests of what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from autointerp.examples.harvest import collect
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions
from autointerp.examples.store import ExampleStore
from autointerp.subject.activation_functions import Threshold, TopK
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Subject

WINDOW, CONTEXT, SEED = 8, 40, 3
OPTIONS = ExampleOptions(
    window=WINDOW, background=20, explain_top=4, explain_sampled=6, select_sampled=3, test_sampled=5
)
WORDS = ["def", "return", "self.value", "print", "for", "x", "in", "None\n", "(", ")", ":", "+"]
CORPUS = CorpusOptions(tokens=10**9)


def coder(d_in: int, width: int, activation: TopK | Threshold, seed: int) -> SparseCoder:
    """Random weights, and no biases."""
    generator = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(d_in, width, generator=generator) / d_in**0.5
    # Small decoders explain something: next to nothing is better than the wrong thing.
    return SparseCoder.assemble(
        W_enc,
        W_enc.T * 1e-3,
        torch.zeros(width),
        torch.zeros(d_in),
        activation,
        subtract_b_dec=False,
    )


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        " ".join(generator.choice(WORDS, generator.integers(1, 120))) + f" # {seed} {i}"
        for i in range(count)
    ]


TEXTS = texts(60)


def attached(subject: Subject) -> dict[str, Attached]:
    """Two coders, at hook points of two layers."""
    one, two = subject.hook_point("layers.0"), subject.hook_point("layers.1.mlp.input")
    d = subject.width(one)
    return {
        "topk": Attached(coder(d, 64, TopK(4), 1), one),
        "jump": Attached(coder(d, 96, Threshold(torch.tensor(1.5)), 2), two),
    }


def harvest(
    subject: Subject, coders: dict[str, Attached], directory: Path, documents: list[str]
) -> ExampleStore:
    return collect(
        subject, coders, CORPUS, OPTIONS, directory, SEED, texts=iter(documents), force=True
    )


def unread() -> Iterator[str]:
    """A corpus that must not be read."""
    raise AssertionError("the corpus was read again")
    yield


class KilledError(Exception):
    """Stands for a signal that ends the process."""
