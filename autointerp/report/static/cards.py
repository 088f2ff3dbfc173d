"""Single latents as the report shows them: texts as coloured tokens, scores, what was tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.latents.scales import LEVELS
from autointerp.patterns.grammar import SPACE
from autointerp.report.latent import number
from autointerp.report.tokens import Line, line, visible

EXAMPLES, MORE_EXAMPLES, PROBES = 5, 15, 12
TOKENS = 10  # of the logit lens and of peaks
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Text:
    """A text of a latent's: its largest activation in words, and its tokens."""

    strength: str
    line: Line


@dataclass(frozen=True)
class Probe:
    """A probe text of an agent's: what each hypothesis predicted, and what was measured."""

    name: str
    predictions: list[tuple[str, str, bool]]  # hypothesis, prediction, whether it held
    reading: str
    line: Line


@dataclass(frozen=True)
class Card:
    """One latent of the report; ``document`` is that of ``show``, ``id`` that of its element."""

    id: str
    document: Document
    why: str
    scores: list[str]
    examples: list[Text]
    more: list[Text]
    probes: list[Probe]
    promoted: list[str]
    peaks: list[str]


def card(id: str, document: Document, why: str) -> Card:
    """From the document of ``show``, and why the latent is shown."""
    statistics = document["statistics"]  # empty where the examples stayed with whoever ran
    most = statistics.get("max")
    examples = [_example(e, most) for e in _strongest(document["examples"])]
    told = _telling(document["probes"])
    return Card(
        id=id,
        document=document,
        why=why,
        scores=[_score(scorer, score) for scorer, score in document["scores"].items()],
        examples=examples[:EXAMPLES],
        more=examples[EXAMPLES : EXAMPLES + MORE_EXAMPLES],
        probes=[_probe(probe) for probe in told],
        promoted=[_chip(token) for token in statistics.get("logit_lens", ())[:TOKENS]],
        peaks=[_chip(token) for token, _ in statistics.get("top_tokens", ())[:TOKENS]],
    )


def _chip(token: str) -> str:
    """A token by itself, spaces seen, as patterns write them."""
    return visible(token).replace(" ", SPACE)


def _strongest(examples: Sequence[Document]) -> list[Document]:
    return sorted(examples, key=lambda e: -max(e["activations"], default=0.0))


def _telling(probes: Sequence[Document]) -> list[Document]:
    """Those that speak against most hypotheses, and as many of the latest others."""
    against = sorted(probes, key=lambda probe: -len(probe["contradicts"]))
    wrong = [probe for probe in against if probe["contradicts"]][: PROBES // 2]
    rest = [probe for probe in probes if probe not in wrong]
    return wrong + rest[len(wrong) - PROBES :]


def _example(example: Document, most: float | None) -> Text:
    strength = max(example["activations"], default=0.0)
    return Text(f"{strength:.2f}", line(example["tokens"], example["activations"], most))


def _score(scorer: str, score: Document) -> str:
    name = scorer.replace("_", " ")
    if score["status"] != "scored":
        return f"{name}: {str(score['status']).replace('_', ' ')}"
    interval = (
        "" if score["low"] is None else f" ({number(score['low'])} to {number(score['high'])})"
    )
    return f"{name} {number(score['value'])}{interval}"


def _probe(probe: Document) -> Probe:
    against = set(probe["contradicts"])
    predictions = [
        (name, predicted, name not in against)
        for name, predicted in probe["predictions"].items()
        if predicted != "abstain"
    ]
    shown = line(probe["tokens"], probe["levels"], LEVELS)
    return Probe(probe["id"], predictions, probe["reading"], shown)
