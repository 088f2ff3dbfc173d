"""How alike two runs' explanations are, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]
WIDEST = 100  # signs of an explanation


def print_similarity(console: Console, document: Document) -> None:
    """The matrix of coders, a row a pair of them; below it the pairs that mean the most alike."""
    console.print(Text(f"A: {document['a']}\nB: {document['b']}\nembedder: {document['embedder']}"))
    console.print("mean cosine of each explanation of A to the nearest of B:")
    table = Table("A", "B", box=SIMPLE, pad_edge=False)
    for heading in ("n", "nearest", "95 %", "shuffled", "any two", "mutual"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cell in document["matrix"]:
        table.add_row(Text(cell["a"]), Text(cell["b"]), *_figures(cell))
    console.print(table)
    for pair in document["pairs"]:
        console.print(Text(f"{pair['cosine']:.3f}  {pair['a']}  {pair['b']}"), style="bold")
        for text in dict.fromkeys((pair["text_a"], pair["text_b"])):
            console.print(Text("       " + _line(text)))
    console.print(Text(f"all of them: {document['file']}"))


def _figures(cell: Document) -> list[str]:
    best: Sequence[float | None] = cell["best"]
    interval = "" if best[1] is None else f"{best[1]:.3f}–{best[2]:.3f}"
    shuffled = "" if cell["shuffled"] is None else f"{cell['shuffled'][0]:.3f}"
    return [
        f"{cell['n']:,}",
        f"{best[0]:.3f}",
        interval,
        shuffled,
        f"{cell['any']:.3f}",
        f"{cell['mutual']:.0%}",
    ]


def _line(text: str) -> str:
    """The text in one line without signs that move a terminal's cursor."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    short = " ".join(shown.split())
    return short if len(short) <= WIDEST else short[: WIDEST - 1] + "…"
