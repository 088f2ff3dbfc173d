"""What the terminal shows of one latent."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from autointerp.report.console import SHOWN_PROBES, print_latent


def document(probes: int) -> dict[str, Any]:
    one = {
        "text": "a [b]",
        "reading": "on",
        "predictions": {"h1": "off", "h2": "abstain"},
        "tokens": ["a", " [b]"],
        "levels": [0, 7],
        "contradicts": ["h1"],
    }
    hypothesis = {"id": "h1", "state": "open", "text": '"[x]"', "hits": [2.5, 4]}
    return {
        "latent": "c/1",
        "status": "explained",
        "explanation": '"[x]"',
        "reason": None,
        "scores": {},
        "statistics": {"density": 0.01, "max": 2.0},
        "examples": [],
        "hypotheses": [{**hypothesis, "rejections": [3.0, 3]}],
        "probes": [{**one, "id": f"p{i}"} for i in range(probes)],
    }


def shown(probes: int) -> str:
    console = Console(width=200, record=True, file=StringIO())
    print_latent(console, document(probes))
    return console.export_text()


def test_an_agents_hypotheses_and_probes_are_shown_with_their_brackets() -> None:
    text = shown(1)
    assert 'h1 open: hit 2.5/4, rejected 3/3  "[x]"' in text
    assert "(h1 off) a [b]" in text
    assert "--json" not in text


def test_many_probes_are_cut_and_the_cut_is_told() -> None:
    text = shown(SHOWN_PROBES + 1)
    assert f"of {SHOWN_PROBES + 1} probes" in text
    assert f"p{SHOWN_PROBES} " not in text
