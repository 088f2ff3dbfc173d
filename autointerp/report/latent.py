"""One latent on the terminal: its texts with coloured tokens, its scores, what was tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from autointerp.report.tokens import legible

SHOWN_PROBES = 10
_SPLITS = {
    "explain": "texts that explanations are made from",
    "test": "texts that scores come from",
}
Document = Mapping[str, Any]


def print_latent(console: Console, document: Document) -> None:
    """One latent: its explanation, scores, statistics and examples with coloured tokens."""
    console.print(Text.assemble((document["latent"], "bold"), f" ({document['status']})"))
    console.print(Text(legible(document["explanation"] or document["reason"] or "")))
    if document["explanation"] and document["reason"]:
        console.print(Text(legible(document["reason"]), "dim"))
    if document["output_explanation"]:
        console.print(Text("makes likelier: ").append(legible(document["output_explanation"])))
    for scorer, score in document["scores"].items():
        _print_rows(console, [(f"{scorer}:", Text(legible(_scored(score))))])
    statistics = document["statistics"]
    if statistics:
        console.print(
            f"fires on {statistics['density']:.3%} of tokens, at most {statistics['max']:.2f}"
        )
    if document["notice"]:
        console.print(Text(document["notice"], "dim"))
    _print_examples(console, document["examples"])
    _print_search(console, document)


def _print_rows(console: Console, rows: Iterable[tuple[str, Text]]) -> None:
    """What each row is, dim, with its text beside it: later lines stand below the first."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for what, text in rows:
        table.add_row(Text(what), text)
    if table.row_count:
        console.print(table)


def _print_examples(console: Console, examples: Sequence[Document]) -> None:
    """Texts by what they are for, each with its largest activation, the strongest first."""
    peaks = [(max(example["activations"], default=0.0), example) for example in examples]
    peaks.sort(key=lambda pair: -pair[0])
    for split in dict.fromkeys(example["split"] for example in examples):
        console.print(Text(f"{_SPLITS.get(split, split)}, with their largest activation:"))
        mine = [(peak, example) for peak, example in peaks if example["split"] == split]
        _print_rows(console, ((f"{peak:6.2f} ", _tokens(console, e)) for peak, e in mine))


def _tokens(console: Console, example: Document) -> Text:
    return coloured(example["tokens"], example["activations"], marked=_plain(console))


def _scored(score: Document) -> str:
    """The headline with its interval and controls, or why there is none."""
    if score["status"] != "scored":
        status = str(score["status"]).replace("_", " ")
        return f"{status}: {score['reason']}"
    interval = f"{number(score['low'])} to {number(score['high'])}"
    controls = ", ".join(f"{k} {v:.2f}" for k, v in score["controls"].items())
    return f"{score['metric']} {number(score['value'])} ({interval})  {controls}".rstrip()


def _print_search(console: Console, document: Document) -> None:
    """What an agent tested: its hypotheses with their counts, and the most telling probes."""
    for hypothesis in document["hypotheses"]:
        (hits, on), (rejections, off) = hypothesis["hits"], hypothesis["rejections"]
        line = f"{hypothesis['id']} {hypothesis['state']}: hit {hits:g}/{on}, rejected "
        counts = Text(f"{line}{rejections:g}/{off}  ", style="dim")
        console.print(counts.append(legible(hypothesis["text"]), "default"))
    contradicting = sorted(document["probes"], key=lambda probe: -len(probe["contradicts"]))
    told = contradicting[:SHOWN_PROBES]
    _print_rows(console, ((f"{p['id']} {p['reading']}", _probe(console, p)) for p in told))
    if len(document["probes"]) > SHOWN_PROBES:
        console.print(f"… of {len(document['probes'])} probes; --json has them all", style="dim")


def _probe(console: Console, probe: Document) -> Text:
    """What hypotheses predicted of a text, and its tokens as measured."""
    said = ", ".join(f"{k} {v}" for k, v in probe["predictions"].items() if v != "abstain")
    tokens = coloured(probe["tokens"], probe["levels"], marked=_plain(console))
    return Text(f"({said}) ", style="dim").append_text(tokens)


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
