"""What the terminal shows of a run and of one latent."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autointerp.latents import Explanation, LatentId, Metric, Score
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored
from autointerp.report.console import print_collected, print_summary
from autointerp.report.latent import SHOWN_PROBES, print_latent, print_probe
from autointerp.report.ranking import print_latents


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
        "output_explanation": '"[y]"',
        "notice": None,
        "scores": {},
        "statistics": {"density": 0.01, "max": 2.0},
        "examples": [],
        "hypotheses": [{**hypothesis, "rejections": [3.0, 3]}],
        "probes": [{**one, "id": f"p{i}"} for i in range(probes)],
    }


def shown(probes: int, width: int = 200, **changes: Any) -> str:
    console = Console(width=width, record=True, file=StringIO())
    print_latent(console, {**document(probes), **changes})
    return console.export_text()


def test_where_a_text_comes_from_is_told_below_it() -> None:
    text = shown(0, reason="no hypothesis was confirmed; the text is the pattern explainer's")
    below = text.splitlines()[text.splitlines().index('"[x]"') + 1]
    assert below.rstrip().endswith("the text is the pattern explainer's")


def test_texts_have_their_activation_and_wrap_beside_it() -> None:
    def example(split: str, peak: float) -> dict[str, Any]:
        return {"tokens": [" word"] * 30, "activations": [0.0] * 29 + [peak], "split": split}

    examples = [example("explain", 1.5), example("explain", 12.25), example("test", 3.0)]
    lines = [line.rstrip() for line in shown(0, 80, examples=examples).splitlines()]
    titles = [line for line in lines if line.startswith("texts that")]
    assert [line.split(",")[0] for line in titles] == [
        "texts that explanations are made from",
        "texts that scores come from",
    ]
    begun = [line.split()[0] for line in lines if line.endswith("word") and line[:6].strip()]
    assert begun == ["12.25", "1.50", "3.00"]
    assert sum(line.startswith(" " * 8 + "word") for line in lines) >= len(examples)


def test_an_agents_hypotheses_and_probes_are_shown_with_their_brackets() -> None:
    text = shown(1)
    assert 'h1 open: hit 2.5/4, rejected 3/3  "[x]"' in text
    assert "(h1 off) a« [b]»" in text
    assert "--json" not in text


def test_many_probes_are_cut_and_the_cut_is_told() -> None:
    text = shown(SHOWN_PROBES + 1)
    assert f"of {SHOWN_PROBES + 1} probes" in text
    assert f"p{SHOWN_PROBES} " not in text


COLLECTED = {
    "tokens": 60_000,
    "documents": {"explain": 25, "select": 8, "test": 20},
    "fingerprint": "1c2941a3dc6dcd51cc2667d37f500ef3",
    "hookpoints": {
        "layers.0": {
            "hook": "model.layers.0.output",
            "width": 2048,
            "alive": 1873,
            "dead": 175,
            "rare": 74,
            "l0": 5.96,
            "variance_explained": 0.8123,
            "claims": {"l0": 6},
        }
    },
}


def test_what_was_collected_fits_a_terminal_of_80_columns() -> None:
    console = Console(width=80, record=True, file=StringIO())
    print_collected(console, COLLECTED)
    text = console.export_text()
    assert "corpus fingerprint" in text
    for whole in ("model.layers.0.output", "2,048", "1,873", " 175 ", "6.0 (6)", "0.812"):
        assert whole in text
    assert "…" not in text


FIGURES = {
    "metric": "balanced_accuracy",
    "chance": 0.5,
    "n": 6,
    "mean": 0.7,
    "low": 0.6,
    "high": 0.8,
    "by_coder": {},
    "by_source": {},
    "control_intervals": {},
    "lifts": {},
    "by_status": {"scored": 6, "too_few_examples": 2},
}


def summary(**changes: Any) -> str:
    """What is printed of a run with one scorer."""
    by_status = {"dead": 1, "explained": 7, "no_explanation": 1, "too_few_examples": 1}
    document = {"run": "r", "latents": 10, "explained": 7, "by_status": by_status}
    console = Console(width=120, record=True, file=StringIO())
    print_summary(console, {**document, "scores": {"detection": FIGURES | changes}})
    return console.export_text()


def test_the_latents_without_a_score_are_told_with_the_reason() -> None:
    assert "detection: n = 6 of 10 latents (dead 1, too few examples 3)" in summary()


def test_where_nothing_was_scored_there_is_no_mean_and_no_interval() -> None:
    nothing = summary(n=0, mean=None, low=None, high=None, metric=None, chance=None)
    row = next(line for line in nothing.splitlines() if "nothing was scored" in line)
    assert row.split() == ["nothing", "was", "scored", "0"]


def test_a_scorer_that_met_every_latent_has_reasons_of_its_own_alone() -> None:
    text = summary(by_status={"scored": 9, "too_few_examples": 1}, n=9)
    assert "detection: n = 9 of 10 latents (too few examples 1)" in text


@pytest.mark.parametrize(
    ("mean", "low", "high", "told"),
    [
        (0.51, 0.49, 0.53, ""),
        (0.51, 0.40, 0.62, "6 latents are too few to tell whether detection of shuffled"),
        (0.60, 0.57, 0.63, "detection of shuffled explanations leaves 0.45 to 0.55"),
    ],
)
def test_controls_off_chance_are_told_from_too_few_latents(
    mean: float, low: float, high: float, told: str
) -> None:
    shuffled = {"n": 6, "mean": mean, "low": low, "high": high}
    text = summary(control_intervals={"shuffled": shuffled}, lifts={"shuffled": shuffled})
    assert ("warning" in text) == bool(told)
    assert told in text


@pytest.mark.parametrize(
    ("n", "low", "high", "told"),
    [
        (1, 0.43, 0.43, "1 latent is too few to tell whether detection of shuffled explanations"),
        (4, 0.43, 0.44, "4 latents are too few to tell"),
        (8, 0.415, 0.492, "8 latents are too few to tell"),
        (64, 0.41, 0.44, "is below chance; its mean lies in 0.410 to 0.440"),
    ],
)
def test_a_control_is_off_chance_only_where_its_whole_interval_is(
    n: int, low: float, high: float, told: str
) -> None:
    shuffled = {"n": n, "mean": (low + high) / 2, "low": low, "high": high}
    text = summary(control_intervals={"shuffled": shuffled}, lifts={"shuffled": shuffled})
    assert told in text
    assert "easy to tell apart" not in text


def test_a_control_and_what_true_explanations_gain_on_it_are_one_row() -> None:
    shuffled = {"n": 6, "mean": 0.5, "low": 0.48, "high": 0.52}
    lift = {"n": 6, "mean": 0.2, "low": 0.12, "high": 0.27}
    text = summary(control_intervals={"shuffled": shuffled}, lifts={"shuffled": lift})
    (row,) = (line for line in text.splitlines() if "shuffled" in line)
    assert " ".join(row.split()) == "control: shuffled 6 0.500 0.480 to 0.520 +0.20 ± 0.08"


def test_explanations_have_room_in_a_terminal_of_80_columns(tmp_path: Path) -> None:
    words = "the words of a longer explanation that goes on for more than one line of a table"
    with Results.open(tmp_path / "results.sqlite") as results:
        for index in range(3):
            explanation = Explanation(LatentId("layers.12.mlp", index), words, "agent")
            results.put_explanation(explanation)
            for scorer in ("detection", "discrimination", "intervention"):
                results.put_scores([Scored(scored(explanation, scorer))])
        console = Console(width=80, record=True, file=StringIO())
        print_latents(console, results, "agent", Path("r"))
    text = console.export_text()
    assert "the words of a longer" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def scored(explanation: Explanation, scorer: str) -> Score:
    return Score(
        latent=explanation.latent, explanation=explanation.id, scorer=scorer, judge="",
        headline="m", chance=0.5, metrics={"m": Metric(0.7)}, outcomes=(),
    )  # fmt: skip


def test_active_tokens_are_marked_where_there_are_no_colours() -> None:
    texts = {"texts": [{"tokens": ["for", " i", "\n"], "activations": {"a/1": [0.0, 2.0, 0.5]}}]}
    shown = {}
    for colours in (None, "truecolor"):
        console = Console(file=StringIO(), color_system=colours, force_terminal=bool(colours))
        print_probe(console, texts)
        shown[colours] = console.file.getvalue()  # type: ignore[attr-defined]
    assert "for« i»«⏎»" in shown[None]
    assert "«" not in shown["truecolor"]
