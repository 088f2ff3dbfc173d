"""The intervals of one latent's metrics, once a run has told how its answers hang together."""

from __future__ import annotations

from collections.abc import Mapping

from autointerp.latents import Metric
from autointerp.statistics import Tally, balanced_accuracy, wilson

_RATES = ("recall", "specificity_", "accuracy", "rejected")
_SPECIFICITY = "specificity_"
_HARD = ("token", "neighbour", "semantic")


def widened(metrics: Mapping[str, Metric], effect: float) -> dict[str, Metric]:
    """The metrics of a scorer that asks yes or no or for a choice, with Wilson and MOVER–Wilson
    intervals on n / ``effect`` items; others, and those without an interval, stay as they are."""
    if effect <= 1:
        return dict(metrics)
    tallies = {
        name: Tally(m.n, round(m.value * m.n))
        for name, m in metrics.items()
        if name.startswith(_RATES) and m.low is not None
    }
    found = dict(metrics)
    for name, tally in tallies.items():
        interval = wilson(tally, design_effect=effect)
        found[name] = Metric(metrics[name].value, interval.low, interval.high, tally.n)
    for name, negatives in _balanced(metrics, tallies).items():
        interval = balanced_accuracy(tallies["recall"], *negatives, design_effect=effect)
        found[name] = Metric(metrics[name].value, interval.low, interval.high, metrics[name].n)
    return found


def _balanced(
    metrics: Mapping[str, Metric], tallies: Mapping[str, Tally]
) -> dict[str, list[Tally]]:
    """The negatives of each balanced accuracy: the headline is against the source that gives no
    metric its name; discrimination's, against the neighbours' windows."""
    sources = {
        name.removeprefix(_SPECIFICITY): tally
        for name, tally in tallies.items()
        if name.startswith(_SPECIFICITY)
    }
    if "recall" not in tallies:
        return {}
    found = {name: [tally] for name, tally in sources.items() if name in metrics}
    against = [tally for name, tally in sources.items() if name not in metrics]
    hard = [sources[name] for name in _HARD if name in found]
    found |= {"hard": hard} if hard and "hard" in metrics else {}
    told_apart = [tallies["rejected"]] if "rejected" in tallies else []
    found |= {"told_apart": told_apart} if told_apart and "told_apart" in metrics else {}
    found |= {"balanced_accuracy": against} if against and "balanced_accuracy" in metrics else {}
    return {name: negatives for name, negatives in found.items() if metrics[name].low is not None}
