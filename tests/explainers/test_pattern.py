"""The pattern explainer finds rules that were planted, and says nothing where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from autointerp.explainers.induction import merged
from autointerp.explainers.pattern import PatternExplainer, PatternOptions
from autointerp.latents import (
    Background,
    Evidence,
    Example,
    ExampleBlock,
    Explanation,
    Item,
    LabelledSet,
    LatentId,
    Statistics,
)
from autointerp.patterns import Clause, Condition, Pattern, Token, matches, parse
from autointerp.registry import explainers, judges

VOCABULARY = [*"abcdefghijklmnopqrstuvwxyz", "7", "42", "\n", " the", '"', "\\"]
LATENT = LatentId("planted", 0)
Rule = Callable[[Sequence[str], int], float]


def _split(rule: Rule, seed: int, n: int = 900) -> list[Example]:
    ids = np.random.default_rng(seed).integers(0, len(VOCABULARY), (n, 20)).astype(np.int32)
    words = [[VOCABULARY[i] for i in row] for row in ids]
    activations = np.array([[rule(row, at) for at in range(8, 20)] for row in words], np.float32)
    numbers, starts = np.arange(n), np.full(n, 8)
    block = ExampleBlock(LATENT, numbers, starts, ids[:, 8:], activations, ids[:, :8], VOCABULARY)
    return block.examples()


def _evidence(rule: Rule) -> Evidence:
    examples = _split(rule, 1)
    active = sorted((e for e in examples if e.maximum > 0), key=lambda e: e.maximum)
    peaks = {e.tokens[int(e.activations.argmax())] for e in active}
    rest = _split(rule, 2)
    background = Background(
        np.arange(len(rest)), np.full(len(rest), 8), np.stack([e.token_ids for e in rest]),
        np.stack([e.left_ids for e in rest]), VOCABULARY,
    )  # fmt: skip
    inactive = [e for e in examples if e.maximum == 0 and peaks & set(e.tokens)]
    statistics = Statistics(1, 0.1, 1.0, 1.0, np.zeros(11, np.float32), [])
    maxima = np.array([e.maximum for e in rest], np.float32)
    return Evidence(
        LATENT, statistics, active[::-1][:40], active[:100], inactive[:40], background, maxima, []
    )


def _labelled(rule: Rule, seed: int) -> LabelledSet:
    examples = _split(rule, seed)
    active = [Item(e, True, "activating", 0) for e in examples if e.maximum > 0][:60]
    inactive = [Item(e, False, "random") for e in examples if e.maximum == 0][:60]
    return LabelledSet(LATENT, "select", active + inactive, {}, None, 0)


def _explain(rule: Rule) -> Explanation:
    explainer = PatternExplainer(PatternOptions())
    return asyncio.run(explainer.explain(_evidence(rule), _labelled(rule, 3)))


RULES: dict[str, Rule] = {
    "token set": lambda tokens, i: tokens[i] in ("q", '"', "\\"),
    "previous": lambda tokens, i: tokens[i] == "b" and tokens[i - 1] in ("a", "c", "d"),
    "class after": lambda tokens, i: tokens[i - 1] == "q",
    "earlier": lambda tokens, i: tokens[i] in ("x", "y") and "z" in tokens[:i],
    "either or": lambda tokens, i: tokens[i] == "k" or (tokens[i] == "7" and tokens[i - 1] == "m"),
    "class": lambda tokens, i: tokens[i].isdigit(),
}


@pytest.mark.parametrize("name", RULES)
def test_planted_rules_are_found(name: str) -> None:
    rule = RULES[name]
    explanation = _explain(rule)
    pattern = parse(explanation.text)
    assert str(pattern) == explanation.text
    assert pattern.words <= 40
    assert explanation.status == "explained"
    assert explanation.components == tuple(map(str, pattern.clauses))
    fresh = _split(rule, 4)
    truth = np.array([e.maximum > 0 for e in fresh])
    hits = np.array([any(matches(pattern, e.tokens, e.left_context)) for e in fresh])
    assert (hits[truth].mean() + 1 - hits[~truth].mean()) / 2 > 0.9, explanation.text


def test_what_must_not_stand_before_is_said() -> None:
    often = ["t", "n", *"abcdefgh"]

    def rule(tokens: Sequence[str], i: int) -> float:
        return tokens[i] in "aeiou" and tokens[i - 1] not in ("t", *often)

    pattern = parse(_explain(rule).text)
    assert any(clause.exceptions for clause in pattern.clauses), str(pattern)


def test_nothing_is_said_of_noise_and_of_nothing() -> None:
    def silent(tokens: Sequence[str], i: int) -> float:
        return 0.0

    explanation = _explain(silent)
    assert (explanation.text, explanation.status) == ("nothing", "no_explanation")
    assert explanation.reason


def test_confidence_is_known_where_select_has_windows_to_spare() -> None:
    rule = RULES["token set"]
    explainer, shown, labelled = PatternExplainer(), _evidence(rule), _labelled(rule, 3)
    known = explainer.learn(shown, labelled)
    assert known.value == pytest.approx(1.0, abs=0.05)
    first = [item for item in labelled.items if item.truth][:1]
    rest = [item for item in labelled.items if not item.truth]
    for items in ([], first, rest, first + rest):
        assert explainer.learn(shown, replace(labelled, items=items)).value is None


def test_the_same_evidence_gives_the_same_text() -> None:
    rule = RULES["either or"]
    assert _explain(rule).text == _explain(rule).text


def test_keeping_few_bits_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = RULES["either or"]
    expected = _explain(rule).text
    monkeypatch.setattr("autointerp.explainers.banks.BITS_BYTES", 20_000)
    monkeypatch.setattr("autointerp.patterns.matching.MASK_BYTES", 100)
    assert _explain(rule).text == expected


def test_merging_keeps_what_is_matched() -> None:
    rng = np.random.default_rng(0)
    clauses = [
        Clause(
            (Token("abc"[rng.integers(3)]),),
            ((Condition("after", (Token("xyz"[rng.integers(3)]),)),) if rng.random() < 0.7 else ()),
        )
        for _ in range(40)
    ]
    rows = [["abcxyz"[i] for i in row] for row in rng.integers(0, 6, (30, 12))]
    for start in range(30):
        some = clauses[start : start + 8]
        short = merged(some)
        assert short.words <= Pattern(tuple(some)).words
        for tokens in rows:
            assert matches(short, tokens) == matches(Pattern(tuple(some)), tokens)


def test_kinds_are_registered() -> None:
    assert explainers.get("pattern").options is PatternOptions
    assert "pattern" in judges.names()
