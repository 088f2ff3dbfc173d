"""The explainer without an LLM: a pattern learned on EXPLAIN, its size chosen on SELECT."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autointerp.explainers.induction import (
    Bank,
    Material,
    Positives,
    Settings,
    firing_contexts,
    packed,
    proposals,
)
from autointerp.latents import (
    Background,
    Cost,
    Evidence,
    Example,
    Explanation,
    LabelledSet,
)
from autointerp.patterns import (
    NOTHING,
    Condition,
    Kind,
    Lexicon,
    Mask,
    Pattern,
    Token,
    Windows,
)
from autointerp.judges.pattern import stacked
from autointerp.registry import Options, explainers

EXCEPTION_KINDS: tuple[Kind, ...] = ("after", "somewhere after")
EXCEPTION_TOKENS = 6


class PatternOptions(Options):
    """``word_price``: the balanced accuracy a word must gain. ``tolerance``: how much of it is
    given up on SELECT for a simpler pattern. ``hard_share``: the weight of token-matched and
    neighbour windows among SELECT's negatives. ``max_words`` bounds the text."""

    word_price: float = 0.0015
    tolerance: float = 0.01
    hard_share: float = 0.15
    elsewhere: float = 0.6
    max_words: int = 40


@dataclass(frozen=True)
class _Background:
    """A background sample made ready, shared by the latents of a run."""

    source: Background
    windows: Windows


@dataclass(frozen=True)
class _Trial:
    """Labelled windows on which patterns are compared; weights make a balanced accuracy."""

    windows: Windows
    weights: np.ndarray  # [n], positives' and negatives' signed, each summing to ±½

    def value(self, pattern: Pattern) -> float:
        """Balanced accuracy."""
        hits = self.windows.matches(pattern).any(axis=1)
        return 0.5 + float(self.weights @ hits)


@explainers.register("pattern", PatternOptions)
class PatternExplainer:
    """Learns a pattern: token sets, classes and contexts, rendered in at most 40 words."""

    name = "pattern"

    def __init__(self, options: PatternOptions | None = None, seed: int = 0) -> None:
        self.options = options or PatternOptions()
        self._lexicon = Lexicon([])
        self._background: _Background | None = None
