"""The protocol of eai-delphi 0.1.3, so that results can be set beside those published with it.

What it fixes for both scorers: of a latent's active windows, strongest first, five are drawn from
each tenth; 50 windows are drawn, with repeats, from those in which it is inactive; the judge meets
all of them in one shuffled order, without the text before them. Seeds are the same for every
latent. In fuzzing the marks of an inactive window stand in the same places for every window.
Metrics leave unanswered items out. The windows are those that the run has kept of TEST: a uniform
sample of the active ones, and the background, where eai-delphi has the whole corpus.

Its order of items depends on which latents were scored before; here every latent is the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from math import ceil
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..judges import Judge
from ..latents import (
    Background,
    Example,
    ExampleBlock,
    Explanation,
    Item,
    Label,
    LatentId,
    Score,
)
from ..statistics import Confusion
from . import JudgedOptions, Materials
from .labels import (
    POSITIVE,
    Answer,
    ask_in_order,
    by_source,
    label_metrics,
    label_score,
    tally,
    too_few,
)

FEWEST_WINDOWS = 200  # active ones in the whole corpus
QUANTILES, PER_QUANTILE = 10, 5
NEGATIVES = 50
MARKED_FROM = 0.3  # of the window's maximum
SHUFFLED, QUANTILED, DRAWN, MARKED = 42, 22, 42, 22  # seeds


_ITEMS: WeakKeyDictionary[Materials, list[Item] | str] = WeakKeyDictionary()  # for both scorers


class ProtocolOptions(JudgedOptions):
    """``protocol: delphi`` takes windows, order, marks and metrics as eai-delphi does."""

    protocol: Literal["standard", "delphi"] = "standard"


async def protocol_score(
    explanation: Explanation, materials: Materials, judge: Judge, *, scorer: str, marked: bool
) -> Score:
    """Score by the protocol: detection, or fuzzing if tokens are to be ``marked``.

    A latent with fewer than 200 active windows in the corpus, or fewer than 50 inactive ones to
    draw from, is ``too_few_examples``.

    Raises:
        ValueError: if the materials lack the sample of active windows or the background.
    """
    if materials not in _ITEMS:
        _ITEMS[materials] = protocol_items(materials)
    items = _ITEMS[materials]
    if isinstance(items, str):
        return too_few(explanation, items, scorer=scorer, judge=judge.name)
    asked_about = list(marks(items)) if marked else None
    answers = await ask_in_order(judge, explanation, items, asked_about)
    counts = asdict(confusion(answers))
    details = {"protocol": "delphi", "confusion": counts}
    score = label_score(answers, explanation, scorer=scorer, judge=judge.name, details=details)
    return score if score.status == "failed" else _over_answered(score, answers)


def _over_answered(score: Score, answers: Sequence[Answer]) -> Score:
    """The score with its metrics over answered items alone, but for ``failures`` and bounds."""
    answered = [a for a in answers if isinstance(a, Label)]
    if len(answered) == len(answers):
        return score
    if len(by_source(answered)) < len(by_source(answers)):
        reason = "no positive was judged, or no negative"
        return replace(score, status="failed", reason=reason)
    kept = {name: score.metrics[name] for name in ("failures", "worst_case", "best_case")}
    return replace(score, metrics={**label_metrics(answered), **kept})


def protocol_items(materials: Materials) -> list[Item] | str:
    """The windows to be judged, in the judge's order; or why there are too few.

    Raises:
        ValueError: if the materials lack the sample of active windows or the background.
    """
    if materials.active is None or materials.background is None:
        raise ValueError("the delphi protocol needs the active windows and the background")
    if materials.active_count < FEWEST_WINDOWS:
        return f"{materials.active_count} active windows, {FEWEST_WINDOWS} are needed"
    assert materials.background_maxima is not None
    inactive = np.flatnonzero(materials.background_maxima == 0)
    if len(inactive) < NEGATIVES:
        return f"{len(inactive)} windows in which the latent is inactive, {NEGATIVES} are needed"
    active = materials.active()
    if len(active.maxima) < QUANTILES:
        return f"{len(active.maxima)} active windows of TEST, {QUANTILES} are needed"
    rows, deciles = _by_quantile(active)
    drawn = inactive[drawn_places(len(inactive))]
    block = _joined(materials.latent, active, rows, materials.background, drawn)
    negatives = [Item(Example(block, i), False, "random") for i in range(len(drawn))]
    positives = [
        Item(Example(block, len(drawn) + i), True, POSITIVE, decile)
        for i, decile in enumerate(deciles)
    ]
    items = negatives + positives
    return [items[place] for place in _shuffled(len(items))]


def drawn_places(count: int) -> NDArray[np.int64]:
    """Which of ``count`` inactive windows are negatives, [50], some perhaps more than once.

    The words of the Mersenne Twister modulo ``count``, as torch draws integers on a CPU.
    """
    return _words() % count


@cache
def _words() -> NDArray[np.int64]:
    twister = np.random.RandomState(DRAWN)
    return twister.randint(0, 2**32, size=NEGATIVES, dtype=np.uint32).astype(np.int64)


def _by_quantile(active: ExampleBlock) -> tuple[list[int], list[int]]:
    """The rows of the positives, strongest tenth first, and their deciles (0 is the weakest).

    What is left over when the windows are cut into tenths, the weakest few, is never drawn.
    """
    strongest = np.lexsort((active.starts, active.documents, -active.maxima))
    size = len(strongest) // QUANTILES
    ranks, quantiles = _quantile_draws(size)
    rows: list[int] = strongest[quantiles * size + ranks].tolist()
    return rows, (QUANTILES - 1 - quantiles).tolist()


@cache
def _quantile_draws(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ranks drawn in tenths of ``size`` windows, and their tenths."""
    generator, each = random.Random(QUANTILED), min(size, PER_QUANTILE)
    draws = [
        list(range(size)) if size < PER_QUANTILE else generator.sample(range(size), PER_QUANTILE)
        for _ in range(QUANTILES)
    ]
    return np.array(draws, np.int64).ravel(), np.repeat(np.arange(QUANTILES), each)


@cache
def _shuffled(count: int) -> list[int]:
    order = list(range(count))
    random.Random(SHUFFLED).shuffle(order)
    return order


def _joined(
    owner: LatentId,
    active: ExampleBlock,
    rows: Sequence[int],
    background: Background,
    drawn: NDArray[np.int64],
) -> ExampleBlock:
    """The negatives, then the positives, without the text before them."""
    positives = active.activations[rows]
    silent = np.zeros((len(drawn), positives.shape[1]), np.float32)
    token_ids = np.concatenate([background.token_ids[drawn], active.token_ids[rows]])
    return ExampleBlock(
        owner,
        np.concatenate([background.documents[drawn], active.documents[rows]]),
        np.concatenate([background.starts[drawn], active.starts[rows]]),
        token_ids,
        np.concatenate([silent, positives]),
        np.zeros((len(token_ids), 0), np.int32),
        active.vocabulary,
    )


def marks(items: Sequence[Item]) -> NDArray[np.bool_]:
    """Which tokens fuzzing marks, [items, window].

    In positives those that reach 0.3 of the window's maximum. In negatives as many as positives
    have active tokens on average, rounded up: one at three quarters of the window, the others in
    places that are the same for every window.
    """
    activations = np.stack([item.example.activations for item in items])
    truth = np.array([item.truth for item in items])
    threshold = (MARKED_FROM * activations.max(1).astype(np.float64)).astype(np.float32)
    marked = activations >= threshold[:, None]
    active = int(np.count_nonzero(activations[truth]))
    wanted = ceil(active / max(1, int(np.count_nonzero(truth))))
    false = np.zeros(activations.shape[1], bool)
    false[_false_places(wanted, activations.shape[1])] = True
    shown: NDArray[np.bool_] = np.where(truth[:, None], marked, false)
    return shown


@cache
def _false_places(wanted: int, window: int) -> list[int]:
    fixed = window - window // 4
    others = [place for place in range(window) if place != fixed]
    more = min(wanted, window) - 1
    return [fixed, *random.Random(MARKED).sample(others, more)] if more > 0 else [fixed]


def confusion(answers: Sequence[Answer]) -> Confusion:
    """The counts over answered items."""
    groups = by_source([a for a in answers if isinstance(a, Label)])
    return Confusion.of(tally(groups.get(POSITIVE, [])), tally(groups.get("random", [])))
