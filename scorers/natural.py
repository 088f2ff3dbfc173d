"""Precision at the rate at which a latent is active, not at that of a test set."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..examples.peaks import peak_tokens
from ..judges import FreeJudge, Judge
from ..latents import Background, Evidence, ExampleBlock, Explanation, Item, Metric
from ..statistics import Stratum, Tally, natural_precision
from . import Materials
from .labels import POSITIVE, Answer, tally

METRIC = "natural_precision"
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
    are weighted by their shares in it. How often the latent is active all windows of the corpus
    tell where their number is known, else those of the background.
    """
    background, maxima = materials.background, materials.background_maxima
    positives = tally([a for a in answers if a.source == POSITIVE])
    if background is None or maxima is None or maxima.all() or not positives.n:
        return {}
    active, windows = int(np.count_nonzero(maxima)), len(maxima)
    if materials.window_count:
        active, windows = materials.active_count, materials.window_count
    if not active:
        return {}
    if isinstance(judge, FreeJudge):
        strata = [_all_inactive(judge.covers(explanation.text, background), maxima)]
    elif materials.evidence is not None:
        near = np.zeros(len(maxima), bool)
        if materials.background_near:
            near = materials.background_near()
        strata = _strata(materials.evidence, background, maxima, near, items, answers)
    else:
        return {}
    found = natural_precision(positives, strata, active, windows, draws=DRAWS)
    n = positives.n + sum(stratum.negatives.n for stratum in strata)
    return {METRIC: Metric.of(found.interval, n)} if found.identified else {}


def _all_inactive(said: NDArray[np.bool_], maxima: NDArray[np.float32]) -> Stratum:
    """``said`` [n] is the judge's word on every window of the background."""
    inactive = maxima == 0
    n = int(inactive.sum())
    return Stratum(n, Tally(n, int((inactive & ~said).sum())))


def _strata(
    evidence: Evidence,
    background: Background,
    maxima: NDArray[np.float32],
    near: NDArray[np.bool_],
    items: Sequence[Item],
    answers: Sequence[Answer],
) -> list[Stratum]:
    """Inactive windows with a peak token; others in which a neighbour is active; the rest."""
    peak = _peak_tokens(evidence)
    kinds = np.where(near, NEAR, REST)
    kinds[_places(background).holding(peak)] = TOKEN
    counts = np.bincount(kinds[maxima == 0], minlength=3).tolist()
    tokens, windows = frozenset(peak.tolist()), _windows(background, near)
    judged: list[list[Answer]] = [[], [], []]
    for item, answer in zip(items, answers, strict=True):
        if (kind := _kind(item, tokens, windows)) is not None:
            judged[kind].append(answer)
    return [Stratum(n, tally(of)) for n, of in zip(counts, judged, strict=True)]


def _windows(background: Background, which: NDArray[np.bool_]) -> frozenset[tuple[int, int]]:
    """Documents and starts of some of the background."""
    documents, starts = background.documents[which].tolist(), background.starts[which].tolist()
    return frozenset(zip(documents, starts, strict=True))


def _kind(item: Item, peak: frozenset[int], near: frozenset[tuple[int, int]]) -> int | None:
    """The stratum that an answer on a negative tells of: on a random one that in which it lies; on
    one chosen for its token or for a neighbour that of what it was chosen for, if it lies there."""
    example, source = item.example, item.source
    if not peak.isdisjoint(example.token_ids.tolist()):
        return TOKEN if source in ("token", "random") else None
    if source == "neighbour":
        return NEAR
    if source != "random":
        return None
    return NEAR if (example.document, example.start) in near else REST


class _Places:
    """In which windows of the background each token stands."""

    def __init__(self, background: Background) -> None:
        tokens = background.token_ids.ravel()
        order = np.argsort(tokens, kind="stable")
        self._windows = order // background.token_ids.shape[1]
        self._ends = np.cumsum(np.bincount(tokens, minlength=len(background.vocabulary)))

    def holding(self, tokens: NDArray[np.int32]) -> NDArray[np.intp]:
        """The windows that hold one of these tokens, some more than once."""
        runs = [self._windows[self._ends[t - 1] if t else 0 : self._ends[t]] for t in tokens]
        return np.concatenate(runs) if runs else np.zeros(0, np.intp)


_OF_BACKGROUND: WeakKeyDictionary[Background, _Places] = WeakKeyDictionary()


def _places(background: Background) -> _Places:
    if background not in _OF_BACKGROUND:
        _OF_BACKGROUND[background] = _Places(background)
    return _OF_BACKGROUND[background]


def _peak_tokens(evidence: Evidence) -> NDArray[np.int32]:
    """Those that the sampled windows peak on."""
    rows: dict[ExampleBlock, list[int]] = {}
    for block, row in evidence.sampled:
        rows.setdefault(block, []).append(row)
    peaks = [
        block.token_ids[at, block.activations[at].argmax(axis=1)] for block, at in rows.items()
    ]
    return peak_tokens(np.concatenate([np.zeros(0, np.int32), *peaks])).tokens
