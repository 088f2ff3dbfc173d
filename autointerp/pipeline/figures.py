"""What a run's scores say beyond their mean: how they spread, how many are good, what is noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from autointerp.latents import Choice, Label, LatentId, Score
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import TRUE, Scored
from autointerp.statistics import (
    bootstrap_mean,
    deconvolve,
    derived_generator,
    design_effect,
    e_bh,
    e_value,
    request_correlation,
)

BAR = 0.7
FALSE_DISCOVERY_RATE = 0.05
NATURAL = "natural_precision"
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


def dependence(results: Results, scorer: str, seed: int) -> Dependence:
    """Estimated from the answers to the run's own explanations, of up to 500 latents."""
    light = (s for s in results.scores(scorer) if s.control == TRUE and s.score.status == "scored")
    latents = sorted({s.score.latent for s in light if s.score.judge not in ("", "pattern")})
    rng = derived_generator(seed, "dependence", scorer)
    drawn = [latents[i] for i in sorted(rng.permutation(len(latents))[:SAMPLED].tolist())]
    rows = [row for latent in drawn for row in _answers(results, scorer, latent)]
    if not rows:
        return INDEPENDENT
    right, truth, request, latent = zip(*rows, strict=True)
    sizes = np.unique(np.array(request), return_counts=True)[1]
    rho = request_correlation(right, truth, np.array(request), np.array(latent))
    items = float((sizes**2).sum() / sizes.sum())
    return Dependence(rho, items, design_effect(rho, items))


def note_effects(results: Results, seed: int) -> None:
    """Keep each scorer's design effect, by which the intervals of its latents are widened."""
    names = sorted({scored.score.scorer for scored in results.scores()})
    results.note(EFFECTS, {name: dependence(results, name, seed).effect for name in names})


def effects(results: Results) -> dict[str, float]:
    """The design effect of every scorer, as last noted."""
    noted: dict[str, float] = results.noted(EFFECTS) or {}
    return noted


def _answers(results: Results, scorer: str, latent: LatentId) -> list[tuple[bool, bool, str, str]]:
    """Whether right, the side of the truth, the request and the latent, of every answer that
    names its request."""
    scores = (s.score for s in results.scores(scorer, latent, outcomes=True) if s.control == TRUE)
    outcomes = [outcome for score in scores for outcome in score.outcomes]
    asked = [o for o in outcomes if isinstance(o, Label | Choice) and o.request is not None]
    return [(_right(o), _side(o), f"{latent} {o.request}", str(latent)) for o in asked]


def _right(outcome: Label | Choice) -> bool:
    if isinstance(outcome, Label):
        return outcome.label == outcome.truth
    return outcome.chosen == outcome.truth


def _side(outcome: Label | Choice) -> bool:
    return outcome.truth if isinstance(outcome, Label) else outcome.source == "activating"


def figures(scored: Sequence[Score], dependent: Dependence) -> Document:
    """Of one scorer's true explanations: their true spread, and the share that is explained.

    ``true_values`` is the distribution of the headline over latents with the noise of sampling
    items taken out (a beta-binomial fit); ``share_explained`` is of latents whose balanced accuracy
    is above .7 at a false-discovery rate of 5 % among them; ``natural_precision`` is the mean
    precision at the latents' own rates, of the ``n`` latents of which it is known.
    """
    document: Document = {"dependence": asdict(dependent)}
    if scored and scored[0].headline in RATES:
        document["true_values"] = _true_values(scored, dependent)
    natural = [s.metrics[NATURAL].value for s in scored if NATURAL in s.metrics]
    if natural:
        document[NATURAL] = {"mean": float(np.mean(natural)), "n": len(natural)}
    pairs = [s.details["pairs"] for s in scored if "pairs" in s.details]
    if pairs:
        document["share_explained"] = _explained(pairs, dependent)
    return document


def _true_values(scored: Sequence[Score], dependent: Dependence) -> Document:
    n = np.array([s.metrics[s.headline].n for s in scored]) / dependent.effect
    values = np.array([s.metrics[s.headline].value for s in scored])
    fit = deconvolve(values * n, n)
    quantiles = {f"{q:g}": fit.quantile(q) for q in QUANTILES}
    return {"mean": fit.mean, "spread": fit.spread, "quantiles": quantiles}


def _explained(pairs: Sequence[Sequence[int]], dependent: Dependence) -> Document:
    evidence = [e_value(np.array(counts) / dependent.effect, BAR) for counts in pairs]
    found = e_bh(evidence, FALSE_DISCOVERY_RATE)
    return {
        "share": float(found.mean()),
        "n": len(pairs),
        "bar": BAR,
        "false_discovery_rate": FALSE_DISCOVERY_RATE,
    }


def lifts(members: Sequence[Scored], seed: int) -> Mapping[str, Document]:
    """By control: the mean of true minus control, over the latents that have both."""
    values: dict[str, dict[LatentId, float]] = {}
    for s in members:
        if s.score.status == "scored":
            headline = s.score.metrics[s.score.headline].value
            values.setdefault(s.control, {})[s.score.latent] = headline
    true = values.pop(TRUE, {})
    found = {}
    for control, of in sorted(values.items()):
        both = sorted(true.keys() & of.keys())
        if both:
            differences = [true[latent] - of[latent] for latent in both]
            mean = bootstrap_mean(differences, [latent.coder for latent in both], seed=seed)
            found[control] = {
                "n": len(both),
                "mean": mean.value,
                "low": mean.low,
                "high": mean.high,
            }
    return found
