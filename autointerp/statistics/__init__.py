"""Intervals, rank metrics, sequential tests and run summaries for scores.

Only numpy and scipy. Rates lie in [0, 1]; intervals are two-sided and 95 % unless told otherwise.
"""

from autointerp.statistics.correlation import affine_fit, pearson, pooled_pearson, r_squared
from autointerp.statistics.metrics import Confusion, auprc, auroc, auroc_interval
from autointerp.statistics.precision import NaturalPrecision, Stratum, natural_precision
from autointerp.statistics.randomness import derived_generator
from autointerp.statistics.rates import (
    Interval,
    Tally,
    balanced_accuracy,
    design_effect,
    failure_bounds,
    wilson,
)
from autointerp.statistics.runs import (
    BetaFit,
    bootstrap_mean,
    deconvolve,
    intraclass_correlation,
    intraclass_interval,
    request_correlation,
)
from autointerp.statistics.sequential import (
    ConfidenceSequence,
    betting_interval,
    e_bh,
    e_value,
    pair_counts,
)

__all__ = [
    "BetaFit",
    "ConfidenceSequence",
    "Confusion",
    "Interval",
    "NaturalPrecision",
    "Stratum",
    "Tally",
    "affine_fit",
    "auprc",
    "auroc",
    "auroc_interval",
    "balanced_accuracy",
    "betting_interval",
    "bootstrap_mean",
    "deconvolve",
    "derived_generator",
    "design_effect",
    "e_bh",
    "e_value",
    "failure_bounds",
    "intraclass_correlation",
    "intraclass_interval",
    "natural_precision",
    "pair_counts",
    "pearson",
    "pooled_pearson",
    "r_squared",
    "request_correlation",
    "wilson",
]
