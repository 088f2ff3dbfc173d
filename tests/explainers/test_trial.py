"""Patterns are compared on labelled windows, and valued on windows that chose none of them."""

from __future__ import annotations

import numpy as np
import pytest

from autointerp.explainers.trial import Trial
from autointerp.patterns import Clause, Lexicon, Pattern, Token, Windows, matches

WORDS = [*"abcdefghijklmnopqrstuvwxyz"]
SOURCES = ["activating"] * 30 + ["random"] * 20 + ["token"] * 6 + ["neighbour"] * 4
COVERS: list[list[Clause]] = [[], *([Clause((Token(word),))] for word in WORDS)]


def _noise(seed: int, sources: list[str]) -> Trial:
    """Windows whose words tell nothing of their labels."""
    ids = np.random.default_rng(seed).integers(0, len(WORDS), (len(sources), 12)).astype(np.int32)
    windows = Windows(Lexicon(WORDS), ids, np.zeros((len(sources), 0), np.int32))
    return Trial(windows, sources, 0.25)


def test_value_is_the_balanced_accuracy_with_the_hard_negatives_share() -> None:
    trial, pattern = _noise(0, SOURCES), Pattern((COVERS[1][0], COVERS[2][0]))
    rows = [[WORDS[i] for i in row] for row in trial.windows.ids.tolist()]
    matched = [any(matches(pattern, row)) for row in rows]
    right = [hit == (s == "activating") for hit, s in zip(matched, SOURCES, strict=True)]
    found, random, hard = np.mean(right[:30]), np.mean(right[30:50]), np.mean(right[50:])
    assert trial.value(pattern) == pytest.approx((found + 0.75 * random + 0.25 * hard) / 2)
    assert trial.value(Pattern()) == 0.5
    hits = trial.hits([list(pattern.clauses)])
    assert hits[0].tolist() == matched


def test_what_was_chosen_among_many_is_valued_on_other_windows() -> None:
    prices = np.zeros(len(COVERS))
    chosen, held_out = [], []
    for seed in range(60):
        trial = _noise(seed, SOURCES)
        hits = trial.hits(COVERS)
        best = trial.best(hits, prices)
        chosen.append(trial.value(Pattern(tuple(COVERS[best]))))
        value = trial.held_out(hits, prices)
        assert value is not None
        held_out.append(value)
    assert np.mean(chosen) > 0.58
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.02)


def test_a_pattern_that_is_right_everywhere_keeps_its_value() -> None:
    ids = np.array([[0]] * 4 + [[1]] * 4, np.int32)
    windows = Windows(Lexicon(WORDS), ids, np.zeros((8, 0), np.int32))
    trial = Trial(windows, ["activating"] * 4 + ["random"] * 4, 0.25)
    hits, prices = trial.hits(COVERS), np.full(len(COVERS), 0.01)
    assert COVERS[trial.best(hits, prices)] == [Clause((Token("a"),))]
    assert trial.held_out(hits, prices) == 1.0


@pytest.mark.parametrize("sources", [["activating", "random", "random"], ["activating"] * 3])
def test_without_both_labels_in_both_halves_there_is_no_value(sources: list[str]) -> None:
    trial = _noise(0, sources)
    assert trial.held_out(trial.hits(COVERS), np.zeros(len(COVERS))) is None
