"""What is typed becomes a query that SQLite takes and that finds what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewer_world import entry, index_of

from autointerp.report.viewer.index import Index
from autointerp.report.viewer.listed import Query
from autointerp.report.viewer.search import LONGEST, MOST_TERMS, Term, marked, terms

TEXTS = (
    "import statements of Python modules",
    "the word import after from",
    "words about importance",
    "été in French",
    "tokens such as == and (",
    "layers of the earth",
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    listed = [entry("c0", i, text) for i, text in enumerate(TEXTS)]
    return index_of(tmp_path_factory.mktemp("run"), listed)


def found(index: Index, text: str) -> list[int]:
    order = next(order for order in index.orders if order.value == "latent")
    return [row.latent.index for row in index.page(Query(terms(text), [], order)).rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import", [0, 1]),
        ("IMPORT", [0, 1]),
        ("import*", [0, 1, 2]),
        ("import from", [1]),
        ('"import after"', [1]),
        ('"after import"', []),
        ('"import aft*"', []),
        ("ete", [3]),
        ("Été", [3]),
        ("== layers.of", [5]),
        ("import OR layers", []),
        ("xcoder0", []),
        ('"of the earth', [5]),
    ],
)
def test_what_is_found(index: Index, text: str, expected: list[int]) -> None:
    assert found(index, text) == expected


@given(st.text(max_size=80) | st.text('"*():^-+ abNOT{}', max_size=40))
def test_nothing_that_can_be_typed_is_an_error(index: Index, text: str) -> None:
    found(index, text)


def test_signs_alone_are_no_terms_and_long_queries_are_cut() -> None:
    assert terms('== ( "." *') == []
    assert len(terms("a " * 100)) == MOST_TERMS
    assert terms("a" * 1000) == [Term(("a" * LONGEST,))]


@given(st.text(max_size=60), st.text(max_size=20))
def test_marking_leaves_the_text_as_it_is(text: str, asked: str) -> None:
    assert "".join(piece.text for piece in marked(text, terms(asked))) == text


def test_words_that_were_asked_for_are_marked() -> None:
    pieces = marked("Import of important things, été", terms("impor* ete of"))
    assert [piece.text for piece in pieces if piece.found] == ["Import", "of", "important", "été"]
