"""One latent on the terminal: its texts with coloured tokens, its scores, what was tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from autointerp.report.tokens import legible

SHOWN_PROBES = 10
Document = Mapping[str, Any]


def print_latent(console: Console, document: Document) -> None:
    """One latent: its explanation, scores, statistics and examples with coloured tokens."""
    console.print(Text.assemble((document["latent"], "bold"), f" ({document['status']})"))
    console.print(Text(legible(document["explanation"] or document["reason"] or "")))
    if document["output_explanation"]:
        console.print(Text("makes likelier: ").append(legible(document["output_explanation"])))
    for scorer, score in document["scores"].items():
        console.print(Text(legible(_score_line(scorer, score))))
    statistics = document["statistics"]
    if statistics:
        console.print(
            f"fires on {statistics['density']:.3%} of tokens, at most {statistics['max']:.2f}"
        )
    if document["notice"]:
        console.print(Text(document["notice"], "dim"))
    for example in document["examples"]:
        shown = Text(f"{example['split']:>7} ", style="dim")
        tokens = coloured(example["tokens"], example["activations"], marked=_plain(console))
        console.print(shown.append_text(tokens))
    _print_search(console, document)


def _score_line(scorer: str, score: Document) -> str:
    """The headline with its interval and controls, or why there is none."""
    if score["status"] != "scored":
        status = str(score["status"]).replace("_", " ")
        return f"{scorer}: {status}: {score['reason']}"
    interval = f"{number(score['low'])} to {number(score['high'])}"
    controls = ", ".join(f"{k} {v:.2f}" for k, v in score["controls"].items())
    return f"{scorer}: {score['metric']} {number(score['value'])} ({interval})  {controls}"


def _print_search(console: Console, document: Document) -> None:
    """What an agent tested: its hypotheses with their counts, and the most telling probes."""
    for hypothesis in document["hypotheses"]:
        (hits, on), (rejections, off) = hypothesis["hits"], hypothesis["rejections"]
        line = f"{hypothesis['id']} {hypothesis['state']}: hit {hits:g}/{on}, rejected "
        counts = Text(f"{line}{rejections:g}/{off}  ", style="dim")
        console.print(counts.append(legible(hypothesis["text"]), "default"))
    contradicting = sorted(document["probes"], key=lambda probe: -len(probe["contradicts"]))
    for probe in contradicting[:SHOWN_PROBES]:
        said = ", ".join(f"{k} {v}" for k, v in probe["predictions"].items() if v != "abstain")
        shown = Text(f"{probe['id']:>4} {probe['reading']:>6} ({said}) ", style="dim")
        tokens = coloured(probe["tokens"], probe["levels"], marked=_plain(console))
        console.print(shown.append_text(tokens))
    if len(document["probes"]) > SHOWN_PROBES:
        console.print(f"… of {len(document['probes'])} probes; --json has them all", style="dim")


def print_probe(console: Console, document: Document) -> None:
    """Every text once for each latent, its tokens coloured by activation."""
    for text in document["texts"]:
        for latent, activations in text["activations"].items():
            console.print(Text(f"{latent}: max {max(activations, default=0):.2f}", style="bold"))
            console.print(coloured(text["tokens"], activations, marked=_plain(console)))


def _plain(console: Console) -> bool:
    """Whether colours would be lost, as in a file or a pipe."""
    return console.color_system is None or console.no_color


def coloured(tokens: Sequence[str], activations: Sequence[float], *, marked: bool = False) -> Text:
    """Tokens on a background that is the stronger, the higher the activation; ``marked`` puts
    those with one between « and » too."""
    most = max(activations, default=0.0)
    text = Text()
    for token, activation in zip(tokens, activations, strict=True):
        shown = legible(token).replace("\n", "⏎")
        if activation > 0 and most > 0:
            shade = int(60 + 160 * activation / most)
            shown = f"«{shown}»" if marked else shown
            text.append(shown, style=f"black on rgb({255 - shade // 2},255,{255 - shade})")
        else:
            text.append(shown)
    return text


def number(value: float | None) -> str:
    """With three decimals; a dash where there is none."""
    return "–" if value is None else f"{value:.3f}"
