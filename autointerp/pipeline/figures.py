"""What a run's scores say beyond their mean: how they spread, how many are good, what is noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Choice, Label, LatentId
from autointerp.pipeline.columns import NATURAL, Columns
from autointerp.pipeline.plan import at, indices
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, counts_for
from autointerp.statistics import (
    deconvolve,
    derived_generator,
    design_effect,
    e_bh,
    e_value,
    request_correlation,
)

BAR = 0.7
FALSE_DISCOVERY_RATE = 0.05
EFFECTS = "design effects"  # what is noted in the results
SAMPLED = 500  # latents whose answers the correlation within requests is estimated from
QUANTILES = (0.1, 0.5, 0.9)
RATES = ("balanced_accuracy", "mixed", "told_apart", "accuracy")  # headlines that are shares

Document = dict[str, Any]


@dataclass(frozen=True)
class Dependence:
    """How much the answers of one request have in common.

    ``correlation`` is ρ; ``items`` the size of an item's request, on average; and ``effect`` how
    much more the figures of a latent vary than if its answers were independent.
    """

    correlation: float = 0.0
    items: float = 1.0
    effect: float = 1.0


INDEPENDENT = Dependence()
_JUDGED = (
    "SELECT coder, latent, explanation FROM scores WHERE scorer = ? AND control = ?"
    " AND status = 'scored' AND judge NOT IN ('', 'pattern')"
)


def dependence(results: Results, scorer: str, explainer: str, seed: int) -> Dependence:
    """Estimated from the answers to the explainer's own explanations, of up to 500 latents."""
    rows = results.query(_JUDGED, (scorer, TRUE))
    mine = (row for row in rows if counts_for(row[2], explainer))
    judged = indices(LatentId(coder, index) for coder, index, _ in mine)
    rng = derived_generator(seed, "dependence", scorer)
    drawn = sorted(rng.permutation(sum(map(len, judged.values())))[:SAMPLED].tolist())
    answers = [
        answer
        for latent in at(judged, drawn)
        for answer in _answers(results, scorer, explainer, latent)
    ]
    if not answers:
        return INDEPENDENT
    right, truth, request, latent = zip(*answers, strict=True)
    sizes = np.unique(np.array(request), return_counts=True)[1]
    rho = request_correlation(right, truth, np.array(request), np.array(latent))
    items = float((sizes**2).sum() / sizes.sum())
    return Dependence(rho, items, design_effect(rho, items))


def note_effects(results: Results, explainer: str, seed: int) -> None:
    """Keep each scorer's design effect, by which the intervals of its latents are widened."""
    names = [name for (name,) in results.query("SELECT DISTINCT scorer FROM scores ORDER BY 1")]
    found = {name: dependence(results, name, explainer, seed).effect for name in names}
    results.note(EFFECTS, found)


def effects(results: Results) -> dict[str, float]:
    """The design effect of every scorer, as last noted."""
    noted: dict[str, float] = results.noted(EFFECTS) or {}
    return noted


def _answers(
    results: Results, scorer: str, explainer: str, latent: LatentId
) -> list[tuple[bool, bool, str, str]]:
    """Whether right, the side of the truth, the request and the latent, of every answer that
    names its request."""
    scores = (s.score for s in results.scores(scorer, latent, outcomes=True) if s.control == TRUE)
    mine = (score for score in scores if counts_for(score.explanation, explainer))
    outcomes = [outcome for score in mine for outcome in score.outcomes]
    asked = [o for o in outcomes if isinstance(o, Label | Choice) and o.request is not None]
    return [(_right(o), _side(o), f"{latent} {o.request}", str(latent)) for o in asked]


def _right(outcome: Label | Choice) -> bool:
    if isinstance(outcome, Label):
        return outcome.label == outcome.truth
    return outcome.chosen == outcome.truth


def _side(outcome: Label | Choice) -> bool:
    return outcome.truth if isinstance(outcome, Label) else outcome.source == "activating"


def figures(columns: Columns, dependent: Dependence) -> Document:
    """Of one scorer's true explanations: their true spread, and the share that is explained.

    ``true_values`` is the distribution of the headline over latents with the noise of sampling
    items taken out (a beta-binomial fit); ``share_explained`` is of latents whose balanced accuracy
    is above .7 at a false-discovery rate of 5 % among them; ``natural_precision`` is the mean
    precision at the latents' own rates, of the ``n`` latents of which it is known.
    """
    document: Document = {"dependence": asdict(dependent)}
    if columns.headline in RATES:
        document["true_values"] = _true_values(columns, dependent)
    if columns.natural:
        mean = float(np.mean(columns.natural))
        document[NATURAL] = {"mean": mean, "n": len(columns.natural)}
    if columns.pairs:
        document["share_explained"] = _explained(columns.pair_counts(), dependent)
    return document


def _true_values(columns: Columns, dependent: Dependence) -> Document:
    n = np.array(columns.items) / dependent.effect
    fit = deconvolve(columns.true.numbers() * n, n)
    quantiles = {f"{q:g}": fit.quantile(q) for q in QUANTILES}
    return {"mean": fit.mean, "spread": fit.spread, "quantiles": quantiles}


def _explained(pairs: NDArray[np.float64], dependent: Dependence) -> Document:
    evidence = [e_value(counts / dependent.effect, BAR) for counts in pairs]
    found = e_bh(evidence, FALSE_DISCOVERY_RATE)
    return {
        "share": float(found.mean()),
        "n": len(pairs),
        "bar": BAR,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
    }
