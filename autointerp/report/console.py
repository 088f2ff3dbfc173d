"""What commands print of a run for people, with rich."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autointerp.latents import LatentId, Score
from autointerp.pipeline.controls import CHANCE_RANGE, is_chance
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import SCORED_STATUSES, TRUE
from autointerp.report.latent import number
from autointerp.statistics import Interval

BEST_AND_WORST = 10
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
        _print_unscored(console, scorer, document)
        shuffled = figures["control_intervals"].get("shuffled")
        if shuffled and not is_chance(Interval(*(shuffled[k] for k in ("mean", "low", "high")))):
            console.print(
                f"warning: {scorer} of shuffled explanations leaves {CHANCE_RANGE[0]} to"
                f" {CHANCE_RANGE[1]}; the texts are easy to tell apart without explanations",
                style="yellow",
            )


def _print_unscored(console: Console, scorer: str, document: Document) -> None:
    """Why a scorer's n is less than the number of latents, if it is."""
    figures = document["scores"][scorer]
    missing = {k: n for k, n in document["by_status"].items() if k not in SCORED_STATUSES}
    for status, count in figures["by_status"].items():
        if status != "scored":
            missing[status] = missing.get(status, 0) + count
    if missing:
        line = f"{scorer}: n = {figures['n']} of {document['latents']} latents"
        console.print(f"{line} ({_counts(missing)})".replace("_", " "), highlight=False)


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
    chance = f" (chance {figures['chance']:g})" if figures["chance"] is not None else ""
    _add(table, scorer, f"{figures['metric']}{chance}", figures)
    for coder, mean in figures["by_coder"].items():
        _add(table, "", f"  {coder}", mean)
    for source, value in figures["by_source"].items():
        table.add_row("", f"  against {source} negatives", "", f"{value:.3f}", "")
    for control, mean in figures["control_intervals"].items():
        _add(table, "", f"  control: {control}", mean)


def _add(table: Table, scorer: str, what: str, mean: Document) -> None:
    interval = f"{number(mean['low'])} to {number(mean['high'])}"
    table.add_row(scorer, what, str(mean["n"]), number(mean["mean"]), interval)


def print_best_and_worst(console: Console, results: Results, explainer: str) -> None:
    """The ten best and the ten worst explained latents, by the first scorer's headline."""
    texts, ranked = _ranked(results, explainer)
    best = ranked[:BEST_AND_WORST]
    worst = ranked[len(best) :][-BEST_AND_WORST:]
    for title, scores in (("best explained", best), ("worst explained", worst)):
        if scores:
            table = Table("latent", scores[0].scorer, "explanation", title=title)
            for score in scores:
                text = Text(texts[score.explanation or ""])
                table.add_row(str(score.latent), f"{_headline(score):.3f}", text)
            console.print(table)


def print_next(console: Console, results: Results, explainer: str, run: Path) -> None:
    """How to look at one of the latents: the best explained one, if there are scores."""
    texts, ranked = _ranked(results, explainer)
    latents = [str(score.latent) for score in ranked] + [i.partition(":")[0] for i in texts]
    if latents:
        command = shlex.join(["autointerp", "show", str(run), latents[0]])
        console.print(f"look at one latent: {command}", markup=False, highlight=False)


def _ranked(results: Results, explainer: str) -> tuple[dict[str, str], list[Score]]:
    """The texts of what was explained, by id, and their scores by the first scorer, best first."""
    texts = {e.id: e.text for e in results.explanations(explainer) if e.status == "explained"}
    scored = [
        s.score
        for s in results.scores()
        if s.control == TRUE and s.score.status == "scored" and s.score.explanation in texts
    ]
    first = min((score.scorer for score in scored), default="")
    ranked = [score for score in scored if score.scorer == first]
    return texts, sorted(ranked, key=lambda score: (-_headline(score), score.latent))


def _headline(score: Score) -> float:
    return score.metrics[score.headline].value


def print_failures(console: Console, failures: Sequence[tuple[LatentId, str]]) -> None:
    """One line a failed latent."""
    for latent, reason in failures:
        console.print(f"failed: {latent}: {reason}", markup=False, highlight=False)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
