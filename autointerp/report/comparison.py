"""Two runs side by side on the terminal, and what a run and its rerun have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.report.latent import number

Document = Mapping[str, Any]


def print_comparison(console: Console, document: Document) -> None:
    """A row a scorer, and one below for the items that both runs judged."""
    console.print(Text(f"A: {document['a']} ({document['explainer_a']})"))
    console.print(Text(f"B: {document['b']} ({document['explainer_b']})"))
    if not document["paired"]:
        console.print("the runs have other subjects or coders: latents are not paired")
    table = Table("scorer", "what")
    for heading in ("n", "A", "B", "B − A"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    for scorer, figures in document["scores"].items():
        _add(table, scorer, figures)
    console.print(table)
    if document["paired"] and all(f.get("n") == 0 for f in document["scores"].values()):
        console.print(
            "the runs are about different latents; name the same ones in both, as in"
            " latents.layers.0=3,5,7",
            highlight=False,
        )


def _add(table: Table, scorer: str, figures: Document) -> None:
    difference = figures["difference"]
    if difference is None:
        table.add_row(scorer, _why_nothing(figures), "0", "", "", "", "")
        return
    n = str(figures["n"]) if "n" in figures else f"{figures['n_a']}, {figures['n_b']}"
    values = number(figures["a"]), number(figures["b"])
    table.add_row(scorer, figures["metric"], n, *values, *_difference(difference))
    if figures.get("icc") is not None:
        low, high = map(number, figures["icc_interval"])
        what = "  intra-class correlation"
        table.add_row("", what, "", "", "", number(figures["icc"]), f"{low} to {high}")
    if items := figures["items"]:
        only = f"{items['right_only_in_a']:,}", f"{items['right_only_in_b']:,}"
        row = _difference(items["difference"])
        table.add_row("", "  right in one only", f"{items['n']:,}", *only, *row)


def _why_nothing(figures: Document) -> str:
    """Why a scorer of both runs compares nothing."""
    if figures["metric"] is None:
        return "the runs tell other metrics of it"
    if "only_in_a" in figures:
        return f"no latent in both: {figures['only_in_a']:,} in A, {figures['only_in_b']:,} in B"
    return "it scored nothing in one of the runs"


def _difference(difference: Document) -> tuple[str, str]:
    low, high = number(difference["low"]), number(difference["high"])
    return f"{difference['mean']:+.3f}", f"{low} to {high}"


def print_rerun(console: Console, document: Document) -> None:
    """How far a run and its rerun agree, in a line for the scores and one for the texts."""
    scores, texts = document["scores"], document["texts"]
    found = [f"{name} {_icc(figures)}" for name, figures in scores.items()]
    told = f"{texts['equal']:.0%} of {texts['n']} texts are the same" if texts["n"] else ""
    if "cosine" in texts:
        told += f"; cosine {number(texts['cosine'])}, of other latents' {number(texts['others'])}"
    for line in (f"intra-class correlation: {', '.join(found)}" if found else "", told):
        if line:
            console.print(f"rerun: {line}", highlight=False)


def _icc(figures: Document) -> str:
    if figures["icc"] is None:
        return f"– (no score varies), n = {figures['n']}"
    low, high = figures["icc_interval"]
    return f"{number(figures['icc'])} ({number(low)} to {number(high)}), n = {figures['n']}"
