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

from autointerp.explainers.banks import Bank, Part, packed
from autointerp.explainers.candidates import Material, Positives, Settings, firing_contexts
from autointerp.explainers.induction import Place, Proposals, merged
from autointerp.explainers.trial import Trial, joined
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
class Learned:
    """A pattern and what its size promises.

    ``value`` is a balanced accuracy on SELECT windows that did not choose the size, before
    SELECT's active windows joined what is learned from; 0.5 for ``nothing``, None where SELECT
    has too few windows to tell.
    """

    pattern: Pattern
    value: float | None


@explainers.register("pattern", PatternOptions)
class PatternExplainer:
    """Learns token sets, classes and contexts; one explainer serves a run, one latent a call."""

    name = "pattern"

    def __init__(self, options: PatternOptions | None = None, seed: int = 0) -> None:
        self.options = options or PatternOptions()
        self._lexicon = Lexicon([])
        self._background: Background | None = None
        self._bank: Bank | None = None

    async def explain(self, evidence: Evidence, selection: LabelledSet) -> Explanation:
        """The pattern of one latent; ``nothing`` with status ``no_explanation`` if none helps."""
        started = time.perf_counter()
        learned = self.learn(evidence, selection)
        found = learned.pattern != NOTHING
        return Explanation(
            latent=evidence.latent,
            text=str(learned.pattern),
            explainer=self.name,
            status="explained" if found else "no_explanation",
            reason=None if found else "no pattern beats chance on the selection windows",
            components=tuple(map(str, learned.pattern.clauses)),
            confidence=learned.value,
            cost=Cost(seconds=time.perf_counter() - started),
        )

    def learn(self, evidence: Evidence, selection: LabelledSet) -> Learned:
        """The pattern; its size is chosen on EXPLAIN where SELECT lacks windows of a label."""
        shown = evidence.sampled or evidence.top
        if not shown or (evidence.background_maxima > 0).all():
            return Learned(NOTHING, 0.5)  # no active or no inactive window to learn from
        bank = self._prepared(evidence.background)
        options = self.options
        settings = Settings(options.word_price, options.elsewhere, options.max_words)
        material = _material(evidence, shown, bank)
        explain = self._explain_trial(evidence, material)
        select = self._select_trial(selection, bank.windows.lexicon)
        choosing = select or explain
        proposals = Proposals(material, settings)
        covers = proposals.covers
        hits = choosing.hits(covers)
        prices = options.word_price * np.array([merged(cover).words for cover in covers])
        best = choosing.best(hits, prices)
        if not best:
            return Learned(NOTHING, 0.5)
        chosen = covers[best]
        more = [item.example for item in selection.items if item.truth]
        if more:
            place = proposals.places[best]
            grown = Place(place.search, round(GROWTH * place.clauses))
            chosen = Proposals(_material(evidence, [*shown, *more], bank), settings).at(grown)
        pattern = self._with_exceptions(merged(chosen), explain, choosing)
        if pattern == NOTHING:
            return Learned(NOTHING, 0.5)
        return Learned(pattern, select.held_out(hits, prices) if select else None)

    def _prepared(self, background: Background) -> Bank:
        if self._bank is None or self._background is not background:
            if self._lexicon.vocabulary is not background.vocabulary:
                self._lexicon = Lexicon(background.vocabulary)
            parts = [(background.token_ids, background.left_ids)]
            self._bank = Bank(joined(self._lexicon, parts))
            self._background = background
        return self._bank

    def _explain_trial(self, evidence: Evidence, material: Material) -> Trial:
        active = material.positives.bank.windows
        rows = material.negatives.rows
        background = evidence.background
        matched = evidence.token_matched
        ids = active.ids.astype(np.int32)
        parts = [(ids[:, active.left :], ids[:, : active.left])]
        parts += [(background.token_ids[rows], background.left_ids[rows])]
        parts += [stacked(matched)] if matched else []
        sources = ["activating"] * len(active.ids) + ["random"] * len(rows)
        sources += ["token"] * len(matched)
        return Trial(joined(active.lexicon, parts), sources, self.options.hard_share)

    def _select_trial(self, selection: LabelledSet, lexicon: Lexicon) -> Trial | None:
        """None where SELECT lacks windows of either label."""
        items = selection.items
        if {item.truth for item in items} != {True, False}:
            return None
        windows = joined(lexicon, [stacked([item.example for item in items])])
        return Trial(windows, [item.source for item in items], self.options.hard_share)

    def _with_exceptions(self, pattern: Pattern, explain: Trial, select: Trial) -> Pattern:
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


def _material(evidence: Evidence, shown: Sequence[Example], bank: Bank) -> Material:
    """The sampled windows and the background's active ones against its inactive ones."""
    background = evidence.background
    active = np.flatnonzero(evidence.background_maxima > 0)
    lexicon = bank.windows.lexicon
    more = (background.token_ids[active], background.left_ids[active])
    sampled = stacked(shown)
    windows = joined(lexicon, [sampled, more])
    firing = np.stack([example.activations > 0 for example in shown])
    unknown: Mask = np.ones((len(active), firing.shape[1]), dtype=bool)
    tokens, contexts = firing_contexts(joined(lexicon, [sampled]), firing)
    return Material(
        Positives(Bank(windows), packed(np.concatenate([firing, unknown]))),
        Part(bank, np.flatnonzero(evidence.background_maxima <= 0)),
        contexts,
        tokens,
    )


def _exceptions(clause: Clause, explain: Trial) -> list[Condition]:
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
