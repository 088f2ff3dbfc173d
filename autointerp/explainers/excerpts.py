"""Which EXPLAIN windows a prompt shows, which are kept back, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Literal

import numpy as np

from autointerp.judges.windows import quoted, separator, shown
from autointerp.latents import Evidence, Example, ExampleBlock
from autointerp.latents.scales import Scale, distinct, span
from autointerp.statistics import derived_generator

Sampling = Literal["top", "random", "quantile"]

QUANTILES = 10
MARKED = 0.3  # share of the window's maximum from which a token is marked
MARKS = (("<<", ">>"), ("⟦", "⟧"), ("«", "»"), ("⟪", "⟫"))


@dataclass(frozen=True)
class Chosen:
    """Windows that are shown, strongest first, and others kept back to test the explanation.

    ``contrasts`` and ``held_silent`` are windows in which the latent is inactive.
    """

    shown: Sequence[Example]
    contrasts: Sequence[Example]
    held_active: Sequence[Example]
    held_silent: Sequence[Example]


def choose(
    evidence: Evidence, sampling: Sampling, count: int, contrasts: int, held: int, seed: int
) -> Chosen:
    """Up to ``count`` distinct windows to show, and up to ``held`` of each label to keep back.

    ``top`` takes the largest maxima, ``random`` from the uniform sample of active windows,
    ``quantile`` as many from each tenth of it by maximum. Inactive windows hold the latent's
    peak tokens as far as there are such; the rest are random.
    """
    rng = derived_generator(seed, evidence.latent, "excerpts")
    sampled = distinct(evidence.sampled)
    mixed = [sampled[i] for i in rng.permutation(len(sampled))]
    pool = {
        "top": distinct(evidence.top),
        "random": mixed,
        "quantile": _by_quantile(mixed),
    }[sampling]
    first = pool[:count]
    taken = {span(example) for example in first}
    rest = [example for example in _by_quantile(mixed) if span(example) not in taken]
    silent = distinct(evidence.token_matched)
    silent += _silent(evidence, max(0, contrasts + held - len(silent)), rng)
    return Chosen(
        shown=sorted(first, key=lambda example: -example.maximum),
        contrasts=silent[:contrasts],
        held_active=rest[:held],
        held_silent=silent[contrasts : contrasts + held],
    )


def _by_quantile(mixed: Sequence[Example]) -> list[Example]:
    """One of each tenth by maximum, then a second of each, and so on."""
    ranked = sorted(range(len(mixed)), key=lambda i: mixed[i].maximum)
    tenths = [sorted(part.tolist()) for part in np.array_split(np.array(ranked, int), QUANTILES)]
    return [mixed[i] for turn in zip_longest(*tenths) for i in turn if i is not None]


def _silent(evidence: Evidence, count: int, rng: np.random.Generator) -> list[Example]:
    """Random background windows in which the latent is inactive."""
    background = evidence.background
    idle = np.flatnonzero(evidence.background_maxima <= 0)
    at = rng.permutation(idle)[:count]
    return ExampleBlock(
        evidence.latent,
        background.documents[at],
        background.starts[at],
        background.token_ids[at],
        np.zeros(background.token_ids[at].shape, np.float32),
        background.left_ids[at],
        background.vocabulary,
    ).examples()


@dataclass(frozen=True)
class Writer:
    """Writes a latent's windows for prompts: marks that no window holds, levels from 1 to 10."""

    marks: tuple[str, str]
    scale: Scale
    between: str  # what joins tokens to text

    @classmethod
    def fitting(cls, evidence: Evidence, chosen: Chosen) -> Writer:
        """With the scale of the whole evidence."""
        windows = [*chosen.shown, *chosen.contrasts, *chosen.held_active, *chosen.held_silent]
        text = "".join(token for e in windows for token in (*e.left_context, *e.tokens))
        free = (marks for marks in MARKS if not any(mark in text for mark in marks))
        maxima = [e.maximum for e in distinct([*evidence.top, *evidence.sampled])]
        scale = Scale.of(maxima, [e.maximum for e in evidence.sampled])
        between = separator(evidence.background.vocabulary)
        return cls(next(free, MARKS[-1]), scale, between)

    def lines(self, examples: Sequence[Example]) -> list[dict[str, str]]:
        """``before``, ``text`` with its active tokens between marks, and their ``levels``."""
        return [
            {**plain, "text": self._marked(example), "levels": self._levels(example)}
            for plain, example in zip(shown(examples), examples, strict=True)
        ]

    def _levels(self, example: Example) -> str:
        """Such as ``" the" 3, " cat" 10``."""
        levels = self.scale.levels(example.activations)
        found = zip(_active(example), example.tokens, levels, strict=True)
        return ", ".join(f"{quoted(token)} {level}" for active, token, level in found if active)

    def _marked(self, example: Example) -> str:
        opening, closing = self.marks
        runs = groupby(zip(_active(example), example.tokens, strict=True), lambda pair: pair[0])
        parts = []
        for active, run in runs:
            text = self.between.join(token for _, token in run)
            parts.append(f"{opening}{text}{closing}" if active else text)
        return quoted(self.between.join(parts))


def _active(example: Example) -> list[bool]:
    activations = example.activations
    return [bool(a > 0 and a >= MARKED * example.maximum) for a in activations]
