"""Run directories written row by row, for those who only read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from autointerp.latents import Explanation, LatentId, Metric, Score
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import Scored

EXPLAINER = "single_pass"
NASTY = (  # texts that markup, files and terminals get wrong
    "<script>alert(1)</script> & <b>bold</b> &amp; &#60;",
    "*markdown* [link](x) `code` | table | # heading",
    "\"double\" 'single' “curly” \\ back",
    "two\nlines\r\nand a\ttab",
    "שלום עולם and مرحبا, mixed \u202eback\u202c",
    "emoji 👩‍👩‍👧 🏳️‍🌈 and x̧",
    "control \x00\x07\x1b[31m\x7f\x85 \ufeff\u2028",
    "{{ braces }} {% block %} ${dollar} %s $x^2$",
    "</style></textarea><!-- ]]>",
)


def explained(index: int, text: str = "a text", coder: str = "c", **changes: object) -> Explanation:
    """An explanation of latent ``coder/index``."""
    return Explanation(LatentId(coder, index), text, EXPLAINER, **changes)  # type: ignore[arg-type]


def scored(
    of: Explanation,
    value: float,
    scorer: str = "detection",
    control: str = "",
    metrics: dict[str, Metric] | None = None,
) -> Scored:
    """A score whose headline is a balanced accuracy of ``value``."""
    headline = Metric(value, max(0.0, value - 0.1), min(1.0, value + 0.1), 20)
    found = {"balanced_accuracy": headline, **(metrics or {})}
    place = {"latent": of.latent, "explanation": of.id, "scorer": scorer, "judge": "llm"}
    made = Score(**place, headline="balanced_accuracy", chance=0.5, metrics=found, outcomes=())
    return Scored(made, control)


def write_run(
    run: Path, explanations: Iterable[Explanation], scores: Sequence[Scored] = ()
) -> Path:
    """A run directory that has results alone."""
    run.mkdir(exist_ok=True)
    with Results.open(run / "results.sqlite") as results:
        for explanation in explanations:
            results.put_explanation(explanation)
        results.put_scores(scores)
    return run
