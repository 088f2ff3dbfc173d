"""The explainer without an LLM: a pattern learned on EXPLAIN, its size chosen on SELECT.

How to search and how many clauses to take are chosen on SELECT; then the same search runs again
with SELECT's active windows added, since rare tokens need every window that shows them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autointerp.explainers.induction import (
    Bank,
    Material,
    Part,
    Place,
    Positives,
    Proposals,
    Settings,
    firing_contexts,
    merged,
    packed,
)
from autointerp.judges.pattern import stacked
from autointerp.latents import (
    Background,
    Cost,
    Evidence,
    Example,
    Explanation,
    LabelledSet,
)
from autointerp.patterns import (
    MAX_WORDS,
    NOTHING,
    Clause,
    Condition,
    Lexicon,
    Mask,
    Pattern,
    Token,
    Windows,
)
from autointerp.registry import Options, explainers

EXCEPTION_SIZES = (1, 2, 4, 8)
# With more active windows, more clauses have earned their place.
GROWTH = 1.25


class PatternOptions(Options):
    """How a pattern's size is chosen.

    ``word_price`` is the balanced accuracy that a word must gain, ``hard_share`` the weight of
    token-matched and neighbour windows among the negatives, ``elsewhere`` what a match at a
    token that does not fire is worth in an active window. ``max_words`` bounds the text.
    """

    word_price: float = 0.0015
    hard_share: float = 0.15
    elsewhere: float = 0.3
    max_words: int = MAX_WORDS


@dataclass(frozen=True)
class _Trial:
    """Labelled windows on which patterns are compared.

    ``weights`` [n] are positive for active windows and negative for the others, and each side
    sums to one half.
    """

    windows: Windows
    weights: NDArray[np.float64]

    def value(self, pattern: Pattern) -> float:
        """Balanced accuracy."""
        return 0.5 + float(self.weights @ self.windows.matches(pattern).any(axis=1))

    def values(self, covers: Sequence[Sequence[Clause]]) -> list[float]:
        """Balanced accuracies of many either-ors of the same clauses, each matched once."""
        clauses = {clause for cover in covers for clause in cover}
        hits = {c: self.windows.matches(Pattern((c,))).any(axis=1) for c in clauses}
        none = np.zeros(len(self.weights), dtype=bool)
        return [
            0.5 + float(self.weights @ np.logical_or.reduce([none, *(hits[c] for c in cover)]))
            for cover in covers
        ]


@explainers.register("pattern", PatternOptions)
class PatternExplainer:
    """Learns token sets, classes and contexts; one explainer serves a run, one latent a call."""

    name = "pattern"

    def __init__(self, options: PatternOptions | None = None, seed: int = 0) -> None:
        self.options = options or PatternOptions()
        self._background: Background | None = None
        self._bank = Bank(_windows(Lexicon([]), np.zeros((0, 1)), np.zeros((0, 0))))

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
        """The pattern of one latent; ``nothing`` with status ``no_explanation`` if none helps."""
        started = time.perf_counter()
        pattern, value = self.learn(evidence, selection)
        found = pattern != NOTHING
        return Explanation(
            latent=evidence.latent,
            text=str(pattern),
            explainer=self.name,
            status="explained" if found else "no_explanation",
            reason=None if found else "no pattern beats chance on the selection windows",
            components=tuple(map(str, pattern.clauses)),
            confidence=value,
            cost=Cost(seconds=time.perf_counter() - started),
        )

    def learn(self, evidence: Evidence, selection: LabelledSet) -> tuple[Pattern, float]:
        """The pattern, and the balanced accuracy on SELECT (0.5 for ``nothing``) of what was
        learned before SELECT's own windows joined in."""
        shown = evidence.sampled or evidence.top
        if not shown:
            return NOTHING, 0.5
        bank = self._prepared(evidence.background)
        options = self.options
        settings = Settings(options.word_price, options.elsewhere, options.max_words)
        if (evidence.background_maxima > 0).all():
            return NOTHING, 0.5  # no inactive window to learn from
        material = _material(evidence, shown, bank)
        explain = self._explain_trial(evidence, material)
        select = self._select_trial(selection, bank.windows.lexicon) or explain
        proposals = Proposals(material, settings)
        best = self._best(proposals.covers, select)
        value = select.value(merged(proposals.covers[best]))
        if not best:
            return NOTHING, value
        more = [item.example for item in selection.items if item.truth]
        if not more:
            return self._with_exceptions(merged(proposals.covers[best]), explain, select), value
        found = [*shown, *more]
        place = proposals.places[best]
        grown = Place(place.search, round(GROWTH * place.clauses))
        again = Proposals(_material(evidence, found, bank), settings).at(grown)
        return self._with_exceptions(merged(again), explain, select), value

    def _prepared(self, background: Background) -> Bank:
        if self._background is not background:
            lexicon = self._bank.windows.lexicon
            if lexicon.vocabulary is not background.vocabulary:
                lexicon = Lexicon(background.vocabulary)
            self._bank = Bank(_windows(lexicon, background.token_ids, background.left_ids))
            self._background = background
        return self._bank

    def _explain_trial(self, evidence: Evidence, material: Material) -> _Trial:
        active = material.positives.bank.windows
        rows = material.negatives.rows
        background = evidence.background
        matched = evidence.token_matched
        ids = active.ids.astype(np.int32)
        parts = [(ids[:, active.left :], ids[:, : active.left])]
        parts += [(background.token_ids[rows], background.left_ids[rows])]
        parts += [stacked(matched)] if matched else []
        windows = _joined(active.lexicon, parts)
        sources = ["activating"] * len(active.ids) + ["random"] * len(rows)
        return _Trial(windows, self._weights(sources + ["token"] * len(matched)))

    def _select_trial(self, selection: LabelledSet, lexicon: Lexicon) -> _Trial | None:
        """None where SELECT lacks windows of either label."""
        items = selection.items
        if {item.truth for item in items} != {True, False}:
            return None
        windows = _joined(lexicon, [stacked([item.example for item in items])])
        return _Trial(windows, self._weights([item.source for item in items]))

    def _weights(self, sources: Sequence[str]) -> NDArray[np.float64]:
        groups = [_group(source) for source in sources]
        counts = Counter(groups)
        hard = self.options.hard_share if counts["hard"] else 0.0
        hard = hard if counts["random"] else 1.0
        shares = {"activating": 1.0, "random": hard - 1.0, "hard": -hard}
        return np.array([0.5 * shares[group] / counts[group] for group in groups])

    def _best(self, covers: Sequence[Sequence[Clause]], trial: _Trial) -> int:
        """The best for its words; the first, and so the smaller, of equals."""
        price = self.options.word_price
        words = [merged(cover).words for cover in covers]
        worth = [v - price * n for v, n in zip(trial.values(covers), words, strict=True)]
        return int(np.argmax(worth))

    def _with_exceptions(self, pattern: Pattern, explain: _Trial, select: _Trial) -> Pattern:
        """Add to each clause what must not stand before it, where both splits gain by it."""
        for index, clause in enumerate(pattern.clauses):
            for exception in _exceptions(clause, explain):
                clauses = list(pattern.clauses)
                clauses[index] = replace(clause, exceptions=(exception,))
                trial = Pattern(tuple(clauses))
                price = self.options.word_price * (trial.words - pattern.words)
                better = explain.value(trial) - explain.value(pattern) > max(price, 0.005)
                if (
                    better
                    and trial.words <= self.options.max_words
                    and select.value(trial) >= select.value(pattern)
                ):
                    pattern = trial
        return pattern


def _group(source: str) -> str:
    return source if source in ("activating", "random") else "hard"


def _windows(
    lexicon: Lexicon, token_ids: NDArray[np.generic], left_ids: NDArray[np.generic]
) -> Windows:
    return Windows(lexicon, token_ids.astype(np.int32), left_ids.astype(np.int32))


def _joined(
    lexicon: Lexicon, parts: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]
) -> Windows:
    """Windows of several (token ids, left ids) under one another."""
    widest = max(left.shape[1] for _, left in parts)
    lefts = [
        np.pad(left, ((0, 0), (widest - left.shape[1], 0)), constant_values=-1) for _, left in parts
    ]
    return Windows(lexicon, np.concatenate([ids for ids, _ in parts]), np.concatenate(lefts))


def _material(evidence: Evidence, shown: Sequence[Example], bank: Bank) -> Material:
    """The sampled windows and the background's active ones against its inactive ones."""
    background = evidence.background
    active = np.flatnonzero(evidence.background_maxima > 0)
    lexicon = bank.windows.lexicon
    more = (background.token_ids[active], background.left_ids[active])
    windows = _joined(lexicon, [stacked(shown), more])
    firing = np.stack([example.activations > 0 for example in shown])
    unknown: Mask = np.ones((len(active), firing.shape[1]), dtype=bool)
    tokens, contexts = firing_contexts(_joined(lexicon, [stacked(shown)]), firing)
    return Material(
        Positives(Bank(windows), packed(np.concatenate([firing, unknown]))),
        Part(bank, np.flatnonzero(evidence.background_maxima <= 0)),
        contexts,
        tokens,
    )


def _exceptions(clause: Clause, explain: _Trial) -> list[Condition]:
    """Sets of tokens that stand before the clause's matches in inactive windows rather."""
    windows = explain.windows
    weights = explain.weights
    rows, columns = np.nonzero(windows.matches(Pattern((clause,))))
    leaning: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        place = column + windows.left - 1
        if place >= 0 and windows.ids[row, place] >= 0:
            text = windows.lexicon.vocabulary[windows.ids[row, place]]
            leaning[text] -= weights[row]
            times[text] += weights[row] < 0
    ranked = [text for text, lean in leaning.most_common(max(EXCEPTION_SIZES)) if lean > 0]
    ranked = [text for text in ranked if times[text] > 1]
    sizes = sorted({min(size, len(ranked)) for size in EXCEPTION_SIZES} - {0})
    return [Condition("after", tuple(map(Token, ranked[:size]))) for size in sizes]
