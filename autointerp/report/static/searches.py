"""What agents tested, over many latents: predictions against what was measured, and verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from autointerp.latents import LatentId
from autointerp.pipeline.results import Results

PREDICTED, MEASURED = ("on", "off"), ("on", "graded", "off")
STATES = ("confirmed", "open", "discarded")

Document = dict[str, Any]


def searches(results: Results, explainer: str, latents: Iterable[LatentId]) -> Document | None:
    """Counts over these latents' hypotheses and probes; None where nothing was tested.

    ``predictions`` has a count for every prediction and reading of a probe; a probe counts once
    for every hypothesis that predicted it.
    """
    hypotheses: Counter[str] = Counter()
    predictions: Counter[tuple[str, str]] = Counter()
    read = probes = 0
    for latent in sorted(latents):
        for explanation in results.explanations(explainer, latent, details=True):
            details = explanation.details
            read += bool(details.get("probes"))
            probes += len(details.get("probes", ()))
            hypotheses.update(h["state"] for h in details.get("hypotheses", ()))
            for probe in details.get("probes", ()):
                predictions.update((p, probe["reading"]) for p in probe["predictions"].values())
    if not probes:
        return None
    return {
        "latents": read,
        "probes": probes,
        "hypotheses": {state: hypotheses[state] for state in STATES},
        "predictions": {p: {m: predictions[p, m] for m in MEASURED} for p in PREDICTED},
    }
