"""A pattern is its text, and matches what its text says."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.judges import Verdict
from autointerp.judges.pattern import PatternJudge
from autointerp.latents import AutointerpError, Example, ExampleBlock, LatentId
from autointerp.patterns import (
    AFFIXES,
    BLANK_CLASSES,
    CLASSES,
    NOTHING,
    PLACE_KINDS,
    SET_KINDS,
    Affix,
    Atom,
    Class,
    Clause,
    Condition,
    Lexicon,
    Pattern,
    Token,
    Windows,
    matches,
    parse,
)
from autointerp.patterns.kept import Kept

NASTY = ['"', "\\", '\\"', "\n", "\n    ", " ", "", ",", ", ", "; or ", " unless after ", "␣",
         "🦎", "\u2028", "\x1c", "\u00a0", "\U000e0001",
         "nothing", "\\u2423", "é", "�", "' '"]  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=6))
atoms: st.SearchStrategy[Atom] = st.one_of(
    st.builds(Token, texts),
    st.builds(Class, st.sampled_from([*CLASSES, *BLANK_CLASSES])),
    st.builds(Affix, st.sampled_from(list(AFFIXES)), texts),
)
sets = st.lists(atoms, min_size=1, max_size=3).map(tuple)
conditions = st.one_of(
    st.builds(Condition, st.sampled_from(SET_KINDS), sets),
    st.builds(Condition, st.sampled_from(PLACE_KINDS)),
)
several = st.lists(conditions, max_size=2).map(tuple)
patterns = st.builds(
    Pattern, st.lists(st.builds(Clause, sets, several, several), max_size=3).map(tuple)
)


@given(patterns)
@settings(max_examples=300)
def test_text_and_pattern_are_the_same(pattern: Pattern) -> None:
    text = str(pattern)
    assert parse(text) == pattern
    assert str(parse(text)) == text
    assert parse(f" {text}\n") == pattern


@given(texts)
def test_quoted_token_is_one_word(text: str) -> None:
    assert Pattern((Clause((Token(text),)),)).words == 1


@given(patterns, st.lists(texts, min_size=1, max_size=8), st.lists(texts, max_size=4))
def test_every_clause_agrees_with_a_naive_reading(
    pattern: Pattern, tokens: list[str], left: list[str]
) -> None:
    row = [*left, *tokens]
    expected = [
        any(_holds(clause, row, place) for clause in pattern.clauses)
        for place in range(len(left), len(row))
    ]
    assert matches(pattern, tokens, left) == expected


def _holds(clause: Clause, row: list[str], place: int) -> bool:
    return (
        any(atom.accepts(row[place]) for atom in clause.match)
        and all(_stands(condition, row, place) for condition in clause.conditions)
        and not any(_stands(condition, row, place) for condition in clause.exceptions)
    )


def _stands(condition: Condition, row: list[str], place: int) -> bool:
    before = row[:place]
    line: list[str] = []
    for text in reversed(before):
        if "\n" in text:
            break
        line.append(text)
    among = {
        "after": before[-1:],
        "two tokens after": before[-2:-1] if place > 1 else [],
        "somewhere after": before,
        "on its line after": line,
        "before": row[place + 1 : place + 2],
    }
    if condition.kind in among:
        return any(atom.accepts(text) for atom in condition.atoms for text in among[condition.kind])
    if condition.kind == "at the start of the text":
        return not before
    if condition.kind == "inside a word":
        joint = (before[-1][-1:] if before else "") + "|" + row[place][:1]
        return len(joint) == 3 and all(c.isalnum() or c == "_" for c in joint.replace("|", ""))
    while before and before[-1].isspace() and "\n" not in before[-1]:
        before = before[:-1]
    return not before or ("\n" in before[-1] and not before[-1].rpartition("\n")[2].strip())


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        ('"x", numbers', ["x", " x", "12", "\n"], [1, 0, 1, 0]),
        ('")" after "("', ["(", ")", ")"], [0, 1, 0]),
        ('"␣b" unless after "a"', ["a", " b", " b"], [0, 0, 1]),
        ('identifiers somewhere after "def"', ["x", "def", " f", "("], [0, 0, 1, 0]),
        ('anything on its line after "#"', ["#", " x", "\n", "y"], [0, 1, 1, 0]),
        ("identifiers at the start of a line", ["a", "\n", "  ", "b", "c"], [1, 0, 0, 1, 0]),
        ("lower-case words inside a word", ["Foo", "bar", ".", "baz"], [0, 1, 0, 0]),
        ('newlines; or tokens starting with "."', ["\n\n", ".x", "x."], [1, 1, 0]),
        ("nothing", ["nothing"], [0]),
    ],
)
def test_what_texts_mean(text: str, tokens: list[str], expected: list[int]) -> None:
    assert matches(parse(text), tokens) == [bool(e) for e in expected]


def test_padding_on_the_left_stands_for_no_token() -> None:
    windows = Windows(
        Lexicon(["a", "b"]), np.array([[0, 1]], np.int32), np.array([[-1, -1]], np.int32)
    )
    assert windows.matches(parse("anything at the start of the text")).tolist() == [[True, False]]
    assert windows.matches(parse("anything after anything")).tolist() == [[False, True]]
    assert not windows.matches(NOTHING).any()


@pytest.mark.parametrize(
    "text",
    ["", "words about ships", '"a" and "b"', '"a', '"a"; or', '"a" after', '"a b"', "nothing else",
     '"a" unless after "b" before "c"', '"\\x"', "tokens like this"],
)  # fmt: skip
def test_what_is_no_pattern_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(AutointerpError, match="not a pattern") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def _example(words: list[int], left: list[int], vocabulary: list[str]) -> Example:
    ids = np.array(words, np.int32)
    activations = np.full(len(words), np.nan, np.float32)  # a judge must not look
    one, before = np.zeros(1, np.int64), np.array([left], np.int32)
    block = ExampleBlock(
        LatentId("c", 0), one, one, ids[None], activations[None], before, vocabulary
    )
    return Example(block, 0)


def test_judge_reads_text_and_tokens_only() -> None:
    vocabulary = ["def", " f", "(", "\n"]
    examples = [_example([1, 2], [], vocabulary), _example([1, 2], [3, 0], vocabulary)]
    judge = PatternJudge()
    found = asyncio.run(judge.detect('"␣f" after "def"', examples, latent=LatentId("c", 0)))
    assert found == [Verdict(False), Verdict(True)]
    with pytest.raises(AutointerpError, match="not a pattern"):
        asyncio.run(judge.detect("function names", examples, latent=LatentId("c", 0)))
    assert asyncio.run(judge.detect("nothing", [], latent=LatentId("c", 0))) == []


def test_of_what_is_kept_the_longest_unasked_goes_first() -> None:
    made: list[str] = []

    def make(key: str) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        made.append(key)
        return np.full(10, ord(key), np.int8)

    kept: Kept[str, np.ndarray[tuple[int], np.dtype[np.int8]]] = Kept(30)
    for key in "abcadabeabc":
        assert kept.get(key, lambda key=key: make(key))[0] == ord(key)
    assert "".join(made) == "abcdbec"
    assert Kept[str, np.ndarray[tuple[int], np.dtype[np.int8]]](5).get("x", lambda: make("x")).size
