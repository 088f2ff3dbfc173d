"""What commands print for people, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autointerp.latents import LatentId
from autointerp.pipeline.controls import CHANCE_RANGE, is_chance
from autointerp.pipeline.results import TRUE, Results
from autointerp.statistics import Interval

BEST_AND_WORST = 10
SHOWN_PROBES = 10
Document = Mapping[str, Any]


class Observer:
    """Shows each stage's progress as a bar on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)


@contextmanager
def observer() -> Iterator[Observer]:
    """An observer whose bars live as long as the block."""
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield Observer(progress)


def print_collected(console: Console, document: Document) -> None:
    """How well each coder reads the subject, beside what its checkpoint claims."""
    table = Table(
        title=f"{document['tokens']:,} tokens, documents {_counts(document['documents'])},"
        f" corpus {document['fingerprint']}"
    )
    for heading in ("coder", "hook point", "width", "alive", "dead", "rare"):
        table.add_column(heading, justify="left" if heading in ("coder", "hook point") else "right")
    table.add_column("L0 (claimed)", justify="right")
    table.add_column("variance explained", justify="right")
    for name, point in document["hookpoints"].items():
        sizes = (f"{point[key]:,}" for key in ("width", "alive", "dead", "rare"))
        claimed = point["claims"].get("l0")
        l0 = f"{point['l0']:.1f}" + (f" ({claimed:g})" if claimed is not None else "")
        table.add_row(name, point["hook"], *sizes, l0, _number(point["variance_explained"]))
    console.print(table)


def print_summary(console: Console, document: Document) -> None:
    """Means with intervals by scorer and coder, controls, and sources of negatives."""
    done = f"{document['explained']} of {document['latents']} latents explained"
    console.print(f"{document['run']}: {done} ({_counts(document['by_status'])})", highlight=False)
    if "cascade" in document:
        _print_cascade(console, document["cascade"])
    if not document["scores"]:
        return
    table = Table()
    for heading in ("scorer", "what", "n", "mean", "95 % interval"):
        table.add_column(heading, justify="right" if heading in ("n", "mean") else "left")
    for scorer, figures in document["scores"].items():
        _add_scorer(table, scorer, figures)
    console.print(table)
    for scorer, figures in document["scores"].items():
        shuffled = figures["control_intervals"].get("shuffled")
        if shuffled and not is_chance(Interval(*(shuffled[k] for k in ("mean", "low", "high")))):
            console.print(
                f"warning: {scorer} of shuffled explanations leaves {CHANCE_RANGE[0]} to"
                f" {CHANCE_RANGE[1]}; the texts are easy to tell apart without explanations",
                style="yellow",
            )


def _print_cascade(console: Console, cascade: Document) -> None:
    """What each tier cost and gained, a tier a column."""
    tiers = cascade["tiers"]
    table = Table("tier", title=f"escalated below {cascade['escalate_below']:g} on SELECT")
    for tier in tiers:
        table.add_column(tier["tier"], justify="right")
    for what in ("tried", "waiting", "failed", "published"):
        table.add_row(what, *(f"{tier[what]:,}" for tier in tiers))
    for what in ("before", "after"):
        table.add_row(f"mean on SELECT {what}", *(_number(tier[what]) for tier in tiers))
    for what in ("requests", "prompt_tokens", "completion_tokens"):
        table.add_row(what.replace("_", " "), *(f"{tier[what]:,}" for tier in tiers))
    table.add_row("dollars", *(f"{tier['dollars']:.4f}" for tier in tiers))
    table.add_row("seconds", *(f"{tier['seconds']:.1f}" for tier in tiers))
    console.print(table)
    if cascade["stopped"]:
        console.print(Text(f"warning: {cascade['stopped']}", style="yellow"))


def _add_scorer(table: Table, scorer: str, figures: Document) -> None:
    chance = f" (chance {figures['chance']:g})" if figures["chance"] is not None else ""
    _add(table, scorer, f"{figures['metric']}{chance}", figures)
    for coder, mean in figures["by_coder"].items():
        _add(table, "", f"  {coder}", mean)
    for source, value in figures["by_source"].items():
        table.add_row("", f"  against {source} negatives", "", f"{value:.3f}", "")
    for control, mean in figures["control_intervals"].items():
        _add(table, "", f"  control: {control}", mean)


def _add(table: Table, scorer: str, what: str, mean: Document) -> None:
    interval = f"{_number(mean['low'])} to {_number(mean['high'])}"
    table.add_row(scorer, what, str(mean["n"]), _number(mean["mean"]), interval)


def print_best_and_worst(console: Console, results: Results, explainer: str) -> None:
    """The ten best and the ten worst explained latents, by the first scorer's headline."""
    texts = {e.id: e.text for e in results.explanations(explainer) if e.status == "explained"}
    scored = [
        (s.score.metrics[s.score.headline].value, s.score)
        for s in results.scores()
        if s.control == TRUE and s.score.status == "scored" and s.score.explanation in texts
    ]
    if not scored:
        return
    first = min(score.scorer for _, score in scored)
    ranked = [(value, s) for value, s in scored if s.scorer == first]
    ranked.sort(key=lambda pair: (-pair[0], pair[1].latent))
    best = ranked[:BEST_AND_WORST]
    worst = ranked[len(best) :][-BEST_AND_WORST:]
    for title, rows in (("best explained", best), ("worst explained", worst)):
        if rows:
            table = Table("latent", first, "explanation", title=title)
            for value, score in rows:
                text = Text(texts[score.explanation or ""])
                table.add_row(str(score.latent), f"{value:.3f}", text)
            console.print(table)


def print_failures(console: Console, failures: Sequence[tuple[LatentId, str]]) -> None:
    """One line a failed latent."""
    for latent, reason in failures:
        console.print(f"failed: {latent}: {reason}", markup=False, highlight=False)


def print_latent(console: Console, document: Document) -> None:
    """One latent: its explanation, scores, statistics and examples with coloured tokens."""
    console.print(f"[bold]{document['latent']}[/bold] ({document['status']})")
    console.print(Text(document["explanation"] or document["reason"] or ""))
    for scorer, score in document["scores"].items():
        interval = f"{_number(score['low'])} to {_number(score['high'])}"
        line = f"{scorer}: {score['metric']} {_number(score['value'])} ({interval})"
        controls = ", ".join(f"{k} {v:.2f}" for k, v in score["controls"].items())
        console.print(f"{line}  {controls}", highlight=False)
    statistics = document["statistics"]
    console.print(
        f"fires on {statistics['density']:.3%} of tokens, at most {statistics['max']:.2f}"
    )
    for example in document["examples"]:
        shown = Text(f"{example['split']:>7} ", style="dim")
        console.print(shown.append_text(coloured(example["tokens"], example["activations"])))
    _print_search(console, document)


def _print_search(console: Console, document: Document) -> None:
    """What an agent tested: its hypotheses with their counts, and the most telling probes."""
    for hypothesis in document["hypotheses"]:
        (hits, on), (rejections, off) = hypothesis["hits"], hypothesis["rejections"]
        line = f"{hypothesis['id']} {hypothesis['state']}: hit {hits:g}/{on}, rejected "
        console.print(
            Text(f"{line}{rejections:g}/{off}  ", style="dim").append(hypothesis["text"], "default")
        )
    contradicting = sorted(document["probes"], key=lambda probe: -len(probe["contradicts"]))
    for probe in contradicting[:SHOWN_PROBES]:
        said = ", ".join(f"{k} {v}" for k, v in probe["predictions"].items() if v != "abstain")
        shown = Text(f"{probe['id']:>4} {probe['reading']:>6} ({said}) ", style="dim")
        console.print(shown.append_text(coloured(probe["tokens"], probe["levels"])))
    if len(document["probes"]) > SHOWN_PROBES:
        console.print(f"… of {len(document['probes'])} probes; --json has them all", style="dim")


def print_probe(console: Console, document: Document) -> None:
    """Every text once for each latent, its tokens coloured by activation."""
    for text in document["texts"]:
        for latent, activations in text["activations"].items():
            console.print(Text(f"{latent}: max {max(activations, default=0):.2f}", style="bold"))
            console.print(coloured(text["tokens"], activations))


def coloured(tokens: Sequence[str], activations: Sequence[float]) -> Text:
    """Tokens on a background that is the stronger, the higher the activation."""
    most = max(activations, default=0.0)
    text = Text()
    for token, activation in zip(tokens, activations, strict=True):
        shown = token.replace("\n", "⏎")
        if activation > 0 and most > 0:
            shade = int(60 + 160 * activation / most)
            text.append(shown, style=f"black on rgb({255 - shade // 2},255,{255 - shade})")
        else:
            text.append(shown)
    return text


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
