"""An estimate on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.report.progress import duration

Document = Mapping[str, Any]


def print_estimate(console: Console, document: Document) -> None:
    """The totals with their intervals, who is asked, what for, and what the figures rest on."""
    sampled = f"from {document['sampled']} of {document['latents']:,} latents"
    if document["sampled_explaining"] != document["sampled"]:
        sampled += f" (explaining: from {document['sampled_explaining']})"
    if document["measured"]:
        sampled += f", {document['measured']:,} of them with real replies"
    console.print(Text(f"{document['run']}: an estimate {sampled}"))
    table = Table("", "low", "about", "high")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("requests", "", f"{document['requests']:,}", "")
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        table.add_row(name.replace("_", " "), *(f"{value:,.0f}" for value in document[name]))
    table.add_row("dollars", *(f"{value:,.2f}" for value in document["dollars"]))
    table.add_row("time", *(duration(value * 3600) for value in document["hours"]))
    here = (duration(value * 3600) for value in document["device_hours"])
    table.add_row("  of it on this machine", *here)
    table.add_row("disk", "", f"{document['disk_bytes'] / 1e6:,.0f} MB", "")
    console.print(table)
    _print_shares(console, "language model", document["by_llm"])
    _print_shares(console, "what for", document["by_purpose"])
    _print_money(console, document)
    for note in document["notes"]:
        console.print(Text(f"note: {note}", "dim"))


def _print_shares(console: Console, heading: str, rows: Mapping[str, Document]) -> None:
    asked = {name: row for name, row in rows.items() if row["requests"]}
    if not asked:
        return
    table = Table(heading)
    for column in ("requests", "prompt tokens", "completion tokens", "dollars"):
        table.add_column(column, justify="right")
    for name, row in asked.items():
        shown = f"{name} ({row['model']})" if "model" in row else name
        counts = [row["requests"], row["prompt_tokens"], row["completion_tokens"]]
        dollars = f"{row['dollars']:,.2f}" if row.get("priced", True) else "?"
        table.add_row(shown, *(f"{count:,.0f}" for count in counts), dollars)
    console.print(table)


def _print_money(console: Console, document: Document) -> None:
    """What is spent of it already, and whether the budget lasts."""
    spent = document["spent"]
    if spent["requests"]:
        console.print(
            f"spent already: {spent['requests']:,} requests, {spent['prompt_tokens']:,} prompt"
            f" tokens, ${spent['dollars']:,.4f}",
            highlight=False,
        )
    for name in ("dollars", "prompt_tokens", "hours"):
        limit, (_, about, high) = document["budget"][name], document[name]
        if limit is not None and high > limit:
            may = "does not" if about > limit else "may not"
            console.print(f"warning: budget.{name}={limit:g} {may} last", style="yellow")
