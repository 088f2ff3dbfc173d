"""Sources of text, and what is said when one is unusable."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from autointerp.examples.corpus import LONGEST_DOCUMENT, documents, split_of
from autointerp.latents import AutointerpError

TEXTS = ["one", "zwei — drei", "vier\n\nfünf"]


def test_the_standard_library_comes_in_a_fixed_order() -> None:
    first = list(islice(documents("stdlib"), 5))
    assert len(first) == 5
    assert all(text.strip() for text in first)
    assert first == list(islice(documents("stdlib"), 5))


def test_files_and_folders(tmp_path: Path) -> None:
    lines = [json.dumps({"body": t, "n": i}) for i, t in enumerate([*TEXTS, " ", ""])]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("a text file", encoding="utf-8")
    (tmp_path / "README").write_text("not text of the corpus")
    assert list(documents(tmp_path / "a.jsonl", "body")) == TEXTS
    assert list(documents(tmp_path / "sub" / "b.txt")) == ["a text file"]
    assert list(documents(tmp_path, "body")) == [*TEXTS, "a text file"]


def test_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"body": [*TEXTS, None]}), tmp_path / "a.parquet")
    assert list(documents(tmp_path / "a.parquet", "body")) == TEXTS
    with pytest.raises(AutointerpError, match="no column 'text'; it has 'body'"):
        documents(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.jsonl", '{"body": "x"}', "text", "line 1 has no column 'text'; it has 'body'"),
        ("a.jsonl", '{"text": 3}', "text", "column 'text' is not text"),
        ("a.jsonl", "[1]", "text", "line 1 is not a JSON object"),
        ("a.jsonl", "{", "text", "line 1 is not JSON"),
        ("a.jsonl", '{"text": "  "}', "text", "holds no text"),
        ("a.jsonl", "", "text", "holds no text"),
        ("a.txt", "", "text", "holds no text"),
        ("a.csv", "text\n", "text", "is not one of"),
    ],
)
def test_unusable_files_are_one_line(
    tmp_path: Path, name: str, content: str, column: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(AutointerpError, match=message) as caught:
        documents(tmp_path / name, column)
    assert "\n" not in str(caught.value)


def test_absent_sources(tmp_path: Path) -> None:
    with pytest.raises(AutointerpError, match="does not exist"):
        documents(tmp_path / "none.jsonl")
    with pytest.raises(AutointerpError, match="does not exist"):
        documents(tmp_path / "none")
    with pytest.raises(AutointerpError, match="holds no"):
        documents(tmp_path)


def test_long_texts_are_cut_at_line_ends(tmp_path: Path) -> None:
    text = "".join(f"line {i}\n" for i in range(50_000))
    (tmp_path / "long.txt").write_text(text)
    pieces = list(documents(tmp_path / "long.txt"))
    assert "".join(pieces) == text
    assert all(len(p) <= LONGEST_DOCUMENT and p.endswith("\n") for p in pieces)


def test_copies_share_a_split() -> None:
    for i in range(50):
        assert split_of(f"Some  Text {i}\n") == split_of(f"some text\t{i}")
    assert split_of("x", (1, 0, 0)) == "explain"
    assert split_of("x", (0, 0, 1)) == "test"
