"""Tokens and texts on a page: nothing is lost, nothing becomes markup, colours follow strengths."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import NASTY

from autointerp.report.tokens import environment, legible, level, line, visible

WORDS = '{% from "tokens.html.j2" import words %}{{ words(text) }}'
TOKENS = '{% from "tokens.html.j2" import tokens %}{{ tokens(line) }}'
PAGES = environment()
any_text = st.text(st.characters(codec=None), max_size=40)  # lone surrogates too


class Reader(HTMLParser):
    """What a browser would show, and the tags it would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shown = ""
        self.tags: list[str] = []
        self.feed(page)
        self.close()

    def handle_data(self, data: str) -> None:
        self.shown += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def rendered(template: str, **values: object) -> Reader:
    page = PAGES.from_string(template).render(**values)
    page.encode("utf-8")  # a lone surrogate would raise
    return Reader(page)


@pytest.mark.parametrize("text", NASTY)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    found = rendered(WORDS, text=text)
    assert found.tags == ["bdi"]
    assert found.shown.strip("\n") == legible(text)


@settings(max_examples=60)
@given(any_text)
def test_any_text_comes_through(text: str) -> None:
    found = rendered(WORDS, text=text)
    assert found.tags == ["bdi"]
    assert found.shown == legible(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"])), any_text)
def test_only_what_pages_cannot_hold_is_changed(plain: str, text: str) -> None:
    assert legible(plain) == plain
    assert legible(legible(text)) == legible(text)


def test_signs_for_what_shows_nothing() -> None:
    assert legible("a\x00\x1b\x7f\ud800\n\t") == "a␀␛␡⟨U+D800⟩\n\t"
    assert visible("\n") == "↵"
    assert visible("") == "∅"
    assert visible("\u202e") == "⟨U+202E⟩"
    assert visible("👩\u200d👧") == "👩\u200d👧"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(max_size=6), st.floats(0, 50, width=32)), max_size=12))
def test_every_token_is_shown_and_marked_by_its_activation(
    found: list[tuple[str, float]],
) -> None:
    tokens, activations = [t for t, _ in found], [a for _, a in found]
    shown = line(tokens, activations)
    assert [t.text for t in shown.tokens] == [visible(t) for t in tokens]
    assert [t.level > 0 for t in shown.tokens] == [a > 0 for a in activations]
    if shown.peak is not None:
        assert activations[shown.peak] == max(activations)
        assert shown.tokens[shown.peak].level == 10
    page = rendered(TOKENS, line=shown)
    assert page.tags.count("mark") == sum(a > 0 for a in activations)
    assert "".join(t.text for t in shown.tokens) in page.shown


@given(st.floats(0, 9), st.floats(0, 9), st.floats(0.1, 9))
def test_a_stronger_activation_is_never_paler(a: float, b: float, most: float) -> None:
    low, high = sorted((a, b))
    assert level(low, most) <= level(high, most) <= 10
    assert (level(low, most) == 0) == (low == 0)


def test_levels_are_of_the_largest_given() -> None:
    assert [t.level for t in line(["a", "b", "c"], [0.0, 1.0, 2.0], 4.0).tokens] == [0, 3, 5]
    assert line(["a"], [8.0], 4.0).tokens[0].level == 10


def test_colours_are_told_in_words_too() -> None:
    assert line([" the", " cat"], [0.0, 2.5]).spoken == "at most 2.5 on “cat”"
    assert line(["a"], [0.0]).spoken == "does not fire"
