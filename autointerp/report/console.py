"""What commands print of a run for people, with rich."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.latents import LatentId
from autointerp.pipeline.controls import CHANCE_MARGIN, is_chance
from autointerp.pipeline.rows import SCORED_STATUSES
from autointerp.report.comparison import print_rerun
from autointerp.report.latent import number
from autointerp.report.progress import counted, trouble
from autointerp.statistics import Interval

FEWEST_LATENTS = 5  # of a control, that its bootstrap says something of other latents
MOST_CORRELATED = 0.1  # of answers of one request, that a sequence of limits stands
_LEAKS = {
    "shuffled": "the texts are easy to tell apart without explanations",
    "empty": "the texts of a prompt give one another away; give the judge texts_per_prompt: 1",
}
_ELIMINATION = "told_apart"  # with the neighbours' true texts, even nothing does better than chance
Document = Mapping[str, Any]


def print_collected(console: Console, document: Document) -> None:
    """How well each coder reads the subject, beside what its checkpoint claims."""
    table = Table(
        title=f"{document['tokens']:,} tokens, documents {counted(document['documents'])},"
        f" corpus fingerprint {document['fingerprint']}"
    )
    table.add_column("coder\n  hook point", overflow="fold")
    for heading in ("width", "alive", "dead", "rare", "L0\n(claim)", "variance\nexplained"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, point in document["hookpoints"].items():
        sizes = (f"{point[key]:,}" for key in ("width", "alive", "dead", "rare"))
        claimed = point["claims"].get("l0")
        l0 = f"{point['l0']:.1f}" + (f" ({claimed:g})" if claimed is not None else "")
        place = Text(f"{name}\n").append(f"  {point['hook']}", "dim")
        table.add_row(place, *sizes, l0, number(point["variance_explained"]))
    console.print(table)


def print_summary(
    console: Console, document: Document, only: Collection[str] | None = None
) -> None:
    """Means with intervals by scorer and coder, controls, and sources of negatives. ``only`` names
    the scorers of the command, where earlier ones are told in one line."""
    done = f"{document['explained']:,} of {document['latents']:,} latents explained"
    statuses = counted(document["by_status"]).replace("_", " ") or "none"
    console.print(f"{document['run']}: {done} ({statuses})", highlight=False)
    if "cascade" in document:
        _print_cascade(console, document["cascade"])
    for line in trouble({"llm": document.get("llm")}):
        console.print(line, style="yellow", highlight=False)
    shown = {n: f for n, f in document["scores"].items() if only is None or n in only}
    if shown:
        _print_scores(console, document, shown)
    if earlier := sorted(document["scores"].keys() - shown.keys()):
        console.print(f"scored by earlier commands: {', '.join(earlier)}", highlight=False)
    if "rerun" in document and only is None:
        print_rerun(console, document["rerun"])


def _print_scores(console: Console, document: Document, shown: Mapping[str, Document]) -> None:
    """The table of these scorers' figures, and what is to be known of them."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), collapse_padding=True)
    for heading in ("scorer", "n", "mean", "95 % interval"):
        table.add_column(heading, justify="right" if heading in ("n", "mean") else "left")
    if any(figures["lifts"] for figures in shown.values()):
        table.add_column("lift", no_wrap=True)
    for scorer, figures in shown.items():
        _add_scorer(table, scorer, figures)
        table.add_section()
    console.print(table)
    for scorer, figures in shown.items():
        _print_unscored(console, scorer, document)
        for line in cautions(scorer, figures):
            console.print(f"warning: {line}", style="yellow")


def cautions(scorer: str, figures: Document) -> Iterator[str]:
    """What speaks against a scorer's figures."""
    for control in _LEAKS:
        found = figures["control_intervals"].get(control)
        if found is not None and figures["metric"] != _ELIMINATION:
            yield from _leak(f"{scorer} of {control} explanations", control, found, figures)
    correlation = figures.get("dependence", {"correlation": 0})["correlation"]
    if figures["metric"] == "mixed" and correlation > MOST_CORRELATED:
        yield (
            f"{scorer} is sequential and the answers of a request have a correlation of"
            f" {correlation:.2f}; its limits need a judge with texts_per_prompt: 1"
        )


def _leak(what: str, control: str, found: Document, figures: Document) -> Iterator[str]:
    """A control whose interval is not within the band of chance: outside of it, or too wide."""
    chance = figures["chance"]
    interval = Interval(*(found[k] for k in ("mean", "low", "high")))
    if is_chance(interval, chance):
        return
    bottom, top = chance - CHANCE_MARGIN, chance + CHANCE_MARGIN
    lies = f"its mean lies in {interval.low:.3f} to {interval.high:.3f}"
    if found["n"] < FEWEST_LATENTS or (interval.low <= top and interval.high >= bottom):
        few = "1 latent is" if found["n"] == 1 else f"{found['n']:,} latents are"
        yield f"{few} too few to tell whether {what} leaves {bottom:g} to {top:g}; {lies}"
    elif interval.high < bottom:
        yield f"{what} is below chance; {lies}: the texts fit negatives better than positives"
    else:
        yield f"{what} leaves {bottom:g} to {top:g}; {_LEAKS[control]}"


def _print_unscored(console: Console, scorer: str, document: Document) -> None:
    """Why a scorer's n is less than the number of latents, if it is."""
    figures = document["scores"][scorer]
    missing: dict[str, int] = {}
    if sum(figures["by_status"].values()) < document["latents"]:  # it scores what was explained
        missing = {k: n for k, n in document["by_status"].items() if k not in SCORED_STATUSES}
    for status, count in figures["by_status"].items():
        if status != "scored":
            missing[status] = missing.get(status, 0) + count
    if missing:
        line = f"{scorer}: n = {figures['n']:,} of {document['latents']:,} latents"
        why = counted(missing).replace("_", " ")
        console.print(f"{line} ({why})", highlight=False)


def _print_cascade(console: Console, cascade: Document) -> None:
    """What each tier cost and gained, a tier a column."""
    tiers = cascade["tiers"]
    table = Table("tier", title=f"escalated below {cascade['escalate_below']:g} on SELECT")
    for tier in tiers:
        table.add_column(tier["tier"], justify="right")
    for what in ("tried", "waiting", "failed", "published"):
        table.add_row(what, *(f"{tier[what]:,}" for tier in tiers))
    for what in ("before", "after"):
        table.add_row(f"mean on SELECT {what}", *(number(tier[what]) for tier in tiers))
    for what in ("requests", "prompt_tokens", "completion_tokens"):
        table.add_row(what.replace("_", " "), *(f"{tier[what]:,}" for tier in tiers))
    table.add_row("dollars", *(f"{tier['dollars']:.4f}" for tier in tiers))
    table.add_row("seconds", *(f"{tier['seconds']:.1f}" for tier in tiers))
    console.print(table)
    if cascade["stopped"]:
        console.print(Text(f"warning: {cascade['stopped']}", style="yellow"))


def _add_scorer(table: Table, scorer: str, figures: Document) -> None:
    table.add_row(Text(scorer, "bold"))
    if figures["mean"] is None:
        table.add_row("nothing was scored", str(figures["n"]))
        return
    _add(table, f"{figures['metric']} (chance {figures['chance']:g})", figures)
    for coder, mean in figures["by_coder"].items():
        _add(table, f"  {coder}", mean)
    for source, value in figures["by_source"].items():
        table.add_row(f"  against {source} negatives", "", f"{value:.3f}", "")
    for control, mean in figures["control_intervals"].items():
        _add(table, f"  control: {control}", mean, figures["lifts"].get(control))
    _add_spread(table, figures)


def _add_spread(table: Table, figures: Document) -> None:
    """How the true values lie, how many latents are explained, how the answers hang together."""
    if spread := figures.get("true_values"):
        low, _, high = spread["quantiles"].values()
        middle = f"{number(low)} to {number(high)}"
        table.add_row("  80 % of latents, less noise", "", number(spread["mean"]), middle)
    if natural := figures.get("natural_precision"):
        what = "  precision at the natural rate"
        table.add_row(what, str(natural["n"]), number(natural["mean"]), "")
    if share := figures.get("share_explained"):
        what = f"  share above {share['bar']:g}, FDR {share['false_discovery_rate']:.0%}"
        table.add_row(what, str(share["n"]), number(share["share"]), "")
    if error := figures.get("judge_error"):
        differ = f"answers differ in {error['differ']:.1%}"
        table.add_row("  judge error", f"{error['n']:,}", number(error["error"]), differ)
    dependence = figures.get("dependence", {"items": 1})
    if dependence["items"] > 1:
        correlation = number(dependence["correlation"])
        effect = f"design effect {dependence['effect']:.2f}"
        table.add_row("  correlation in a request", "", correlation, effect)


def _add(table: Table, what: str, mean: Document, lift: Document | None = None) -> None:
    """A row of a mean; ``lift`` is by how much true explanations score more than a control."""
    interval = f"{number(mean['low'])} to {number(mean['high'])}"
    gain = ""
    if lift is not None:
        reach = max(lift["high"] - lift["mean"], lift["mean"] - lift["low"])
        gain = f"{lift['mean']:+.2f} ± {reach:.2f}"
    table.add_row(what, str(mean["n"]), number(mean["mean"]), interval, gain)


def print_failures(console: Console, failures: Sequence[tuple[LatentId, str]]) -> None:
    """One line a failed latent."""
    for latent, reason in failures:
        line = f"failed: {latent}: {reason}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
