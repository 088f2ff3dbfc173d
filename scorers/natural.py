"""Precision at the rate at which a latent is active, not at that of a test set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..judges import FreeJudge, Judge
from ..latents import Background, Evidence, Explanation, Item, Metric
from ..statistics import Stratum, Tally, natural_precision
from . import Materials
from .labels import POSITIVE, Answer, tally

METRIC = "natural_precision"
PEAK_TOKENS = 16
PEAK_SHARE = 0.8  # of the active windows, whose peak tokens are looked for in others
DRAWS = 2000

TOKEN, NEAR, REST = range(3)  # strata; a window is of the first that it fits


def precision_metric(
    judge: Judge,
    explanation: Explanation,
    materials: Materials,
    items: Sequence[Item],
    answers: Sequence[Answer],
) -> dict[str, Metric]:
    """``natural_precision`` from the answers to ``items``; nothing where it is not identified.

    A judge that costs nothing reads the whole background. Of others the false alarms on windows
    that hold the latent's peak tokens, on those in which a neighbour is active, and on the rest,
    are weighted by their shares in it.
    """
    background, maxima = materials.background, materials.background_maxima
    positives = tally([a for a in answers if a.source == POSITIVE])
    if background is None or maxima is None or not maxima.any() or not positives.n:
        return {}
    if isinstance(judge, FreeJudge):
        strata = [_all_inactive(judge.covers(explanation.text, background), maxima)]
    elif materials.evidence is not None and not maxima.all():
        near = np.zeros(len(maxima), bool)
        if materials.background_near:
            near = materials.background_near()
        strata = _strata(materials.evidence, background, maxima, near, items, answers)
    else:
        return {}
    rate = float(np.mean(maxima > 0))
    found = natural_precision(positives, strata, rate, draws=DRAWS)
    n = positives.n + sum(stratum.negatives.n for stratum in strata)
    interval = found.interval
    metric = Metric(interval.value, interval.low, interval.high, n)
    return {METRIC: metric} if found.identified else {}


def _all_inactive(said: NDArray[np.bool_], maxima: NDArray[np.float32]) -> Stratum:
    """``said`` [n] is the judge's word on every window of the background."""
    inactive = maxima == 0
    return Stratum(1.0, Tally(int(inactive.sum()), int((inactive & ~said).sum())))


def _strata(
    evidence: Evidence,
    background: Background,
    maxima: NDArray[np.float32],
    near: NDArray[np.bool_],
    items: Sequence[Item],
    answers: Sequence[Answer],
) -> list[Stratum]:
    """Inactive windows with a peak token; others in which a neighbour is active; the rest."""
    peak = np.zeros(len(background.vocabulary), bool)
    peak[_peak_tokens(evidence)] = True
    without = np.where(near, NEAR, REST)
    kinds = np.where(peak[background.token_ids].any(axis=1), TOKEN, without)[maxima == 0]
    shares = np.bincount(kinds, minlength=3) / len(kinds)
    windows = _windows(background, near)
    judged: list[list[Answer]] = [[], [], []]
    for item, answer in zip(items, answers, strict=True):
        if (kind := _kind(item, peak, windows)) is not None:
            judged[kind].append(answer)
    return [Stratum(share, tally(of)) for share, of in zip(shares.tolist(), judged, strict=True)]


def _windows(background: Background, which: NDArray[np.bool_]) -> frozenset[tuple[int, int]]:
    """Documents and starts of some of the background."""
    documents, starts = background.documents[which].tolist(), background.starts[which].tolist()
    return frozenset(zip(documents, starts, strict=True))


def _kind(item: Item, peak: NDArray[np.bool_], near: frozenset[tuple[int, int]]) -> int | None:
    """The stratum that an answer on a negative tells of: on a random one that in which it lies; on
    one chosen for its token or for a neighbour that of what it was chosen for, if it lies there."""
    example, source = item.example, item.source
    if peak[example.token_ids].any():
        return TOKEN if source in ("token", "random") else None
    if source == "neighbour":
        return NEAR
    if source != "random":
        return None
    return NEAR if (example.document, example.start) in near else REST


def _peak_tokens(evidence: Evidence) -> NDArray[np.int32]:
    """The commonest tokens at the peaks of the sampled windows, until they make up most."""
    peaks = [int(e.token_ids[int(e.activations.argmax())]) for e in evidence.sampled]
    tokens, counts = np.unique(np.array(peaks, np.int32), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    enough = int(np.searchsorted(np.cumsum(counts[order]), PEAK_SHARE * len(peaks))) + 1
    return np.asarray(tokens[order[: min(enough, PEAK_TOKENS)]])
