"""Pages of latents against plain sorting and filtering of a list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from viewer_world import entry, headline, index_of, some

from autointerp.latents import LatentId
from autointerp.report.viewer import listed as listing
from autointerp.report.viewer.forms import asked, named
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.stream import Entry

ENTRIES = some(400)
PREDICATES: dict[str, dict[str, Callable[[Entry], bool]]] = {
    "coder": {"c1": lambda e: e.coder == "c1"},
    "status": {"dead": lambda e: e.status == "dead"},
    "score": {
        "detection>=0.7": lambda e: _value(e, "detection", -1) >= 0.7,
        "fuzzing<0.6": lambda e: _value(e, "fuzzing", 9) < 0.6,
        "detection=none": lambda e: "detection" not in e.headlines,
    },
    "density": {
        ">=0.001": lambda e: (e.density or 0) >= 1e-3,
        "<1e-05": lambda e: (e.density or 0) < 1e-5,
    },
    "q": {
        "alpha": lambda e: _has(e, "alpha"),
        "alpha beta": lambda e: _has(e, "alpha") and _has(e, "beta"),
        "im*": lambda e: _has(e, "im") or _has(e, "import"),
    },
}


def _value(e: Entry, scorer: str, missing: float) -> float:
    return e.headlines[scorer].value if scorer in e.headlines else missing


def _has(e: Entry, word: str) -> bool:
    return word in f"{e.text} {e.effect}".split()


SORTS: dict[str, Callable[[Entry], float]] = {
    "latent": lambda e: 0,
    "detection": lambda e: -_value(e, "detection", -1),
    "fuzzing": lambda e: -_value(e, "fuzzing", -1),
    "density": lambda e: -(e.density or 0),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return index_of(tmp_path_factory.mktemp("run"), ENTRIES)


def walked(index: Index, fields: dict[str, str]) -> list[LatentId]:
    """All pages forwards; checks that walking back meets the same pages."""
    pages = [index.page(asked(fields, index).query)]
    while (after := pages[-1].after) is not None:
        pages.append(index.page(asked({**fields, "after": str(after)}, index).query))
    back = [pages[-1]]
    while (before := back[0].before) is not None:
        back.insert(0, index.page(asked({**fields, "before": str(before)}, index).query))
    assert [page.rows for page in back] == [page.rows for page in pages]
    assert {page.count for page in pages} == {sum(len(page.rows) for page in pages)}
    return [row.latent for page in pages for row in page.rows]


def chosen(values: dict[str, Callable[[Entry], bool]]) -> st.SearchStrategy[str]:
    return st.sampled_from(["", *values])


@settings(max_examples=60)
@given(
    st.fixed_dictionaries({field: chosen(values) for field, values in PREDICATES.items()}),
    st.sampled_from([*SORTS, "-detection", "-fuzzing", "-density"]),
)
def test_every_latent_that_passes_is_listed_once_in_order(
    index: Index, fields: dict[str, str], sort: str
) -> None:
    wanted = ENTRIES
    for field, value in fields.items():
        if value:
            wanted = [e for e in wanted if PREDICATES[field][value](e)]
    expected = sorted(wanted, key=SORTS[sort.removeprefix("-")])
    if sort in ("-detection", "-fuzzing"):
        expected = [e for e in expected if sort[1:] in e.headlines]
    if sort.startswith("-"):
        expected.reverse()
    found = walked(index, {**fields, "sort": sort})
    assert found == [LatentId(e.coder, e.latent) for e in expected]


def test_a_row_has_all_that_was_indexed(index: Index) -> None:
    for e in ENTRIES[::37]:
        row = index.latent(LatentId(e.coder, e.latent))
        assert row is not None
        assert (row.text, row.effect, row.status) == (e.text, e.effect, e.status)
        assert (row.density, row.maximum, row.headlines) == (e.density, e.maximum, e.headlines)
        assert row.hook == {"c0": "h.0.output"}.get(e.coder)
    assert index.latent(LatentId("c0", 10**9)) is None
    assert index.latent(LatentId("other", 0)) is None


def test_more_matches_than_are_counted(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autointerp.report.viewer.index.COUNTED", 10)
    assert index.page(asked({"q": "alpha"}, index).query).count == 11


def test_pages_have_a_fixed_size(index: Index) -> None:
    assert len(index.page(asked({}, index).query).rows) == listing.PAGE


def test_the_names_of_latents_lead_to_them(index: Index) -> None:
    assert named(" c1/3 ", index) == LatentId("c1", 3)
    assert named("c1/99999", index) is None
    assert named("alpha", index) is None


def test_neighbours_share_rare_words(tmp_path: Path) -> None:
    texts = [
        "the zebra of the zoo",
        "the zebra in the zoo",
        "the zoo",
        "the of",
        "the of the",
        "other",
    ]
    index = index_of(tmp_path, [entry("c0", i, text) for i, text in enumerate(texts)])
    first = index.latent(LatentId("c0", 0))
    last = index.latent(LatentId("c0", 5))
    assert first is not None
    assert last is not None
    assert [row.latent.index for row in index.alike(first)][:2] == [1, 2]
    assert index.alike(last) == []


def test_a_run_without_scores_and_densities_has_one_order(tmp_path: Path) -> None:
    index = index_of(tmp_path, [entry("c0", 0)])
    assert index.page(asked({"q": "alpha"}, index).query).count == 1
    assert index.densities == []


def test_equal_scores_keep_the_order_of_latents(tmp_path: Path) -> None:
    listed = [entry("c0", i, headlines={"detection": headline(0.5)}) for i in range(5)]
    index = index_of(tmp_path, listed)
    rows = index.page(asked({"sort": "detection"}, index).query).rows
    assert [row.latent.index for row in rows] == [0, 1, 2, 3, 4]
