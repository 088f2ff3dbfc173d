"""What scorers that ask yes/no questions share: asking without leaks, and the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..judges import Judge, NoVerdict, Verdict
from ..latents import (
    HARD_SOURCES,
    Example,
    Explanation,
    Failure,
    Item,
    Label,
    LatentId,
    Metric,
)
from ..statistics import (
    Confusion,
    Interval,
    Tally,
    auprc,
    auroc,
    balanced_accuracy,
    derived_generator,
    failure_bounds,
    wilson,
)

POSITIVE = "activating"
Answer = Label | Failure


async def ask(
    judge: Judge, explanation: Explanation, items: Sequence[Item], *, seed: int, purpose: str
) -> list[Answer]:
    """Have the judge label every item; the answers come in the items' order.

    The judge meets the items in an order drawn from (seed, latent, purpose), without their
    activations and owners.
    """
    latent = explanation.latent
    order = derived_generator(seed, latent, purpose).permutation(len(items)).tolist()
    shown = _blind([items[i].example for i in order], latent)
    verdicts = await judge.detect(explanation.text, shown, latent=latent)
    answers = {i: _answer(items[i], v) for i, v in zip(order, verdicts, strict=True)}
    return [answers[i] for i in range(len(items))]


def _blind(examples: Sequence[Example], latent: LatentId) -> list[Example]:
    """The windows without what tells their truth: a judge that peeks meets NaN."""
    blocks = {id(example.block): example.block for example in examples}
    blind = {
        key: replace(block, owner=latent, activations=np.full_like(block.activations, np.nan))
        for key, block in blocks.items()
    }
    return [Example(blind[id(example.block)], example.row) for example in examples]


def _answer(item: Item, verdict: Verdict | NoVerdict) -> Answer:
    if isinstance(verdict, NoVerdict):
        return Failure(verdict.reason, item.source, item.decile)
    return Label(item.truth, verdict.label, verdict.probability, item.source, item.decile)


def tally(answers: Sequence[Answer]) -> Tally:
    """Count right answers and failures."""
    right = sum(isinstance(a, Label) and a.label == a.truth for a in answers)
    return Tally(len(answers), right, sum(isinstance(a, Failure) for a in answers))


def by_source(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """The answers of each source that has any; ``activating`` are the positives."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.source, []).append(answer)
    return groups


def label_metrics(answers: Sequence[Answer], *, design_effect: float = 1.0) -> dict[str, Metric]:
    """Every metric of yes/no answers; needs positives and ``random`` negatives.

    ``balanced_accuracy``, ``f1``, ``mcc``, ``precision``, ``auroc`` and ``auprc`` are over
    positives and random negatives; ``token``, ``neighbour`` and ``semantic`` are balanced
    accuracies against that source alone, ``hard`` against the mean of those there are.
    ``recall_decile_0`` is the weakest positives'. Failures are wrong answers, save in
    ``best_case``.
    """
    groups = by_source(answers)
    tallies = {source: tally(group) for source, group in groups.items()}
    positives, random = tallies.pop(POSITIVE), tallies["random"]
    hard = {source: tallies[source] for source in HARD_SOURCES if source in tallies}

    def balanced(*negatives: Tally) -> Metric:
        n = positives.n + sum(t.n for t in negatives)
        return _metric(balanced_accuracy(positives, *negatives, design_effect=design_effect), n)

    def rate(of: Tally) -> Metric:
        return _metric(wilson(of, design_effect=design_effect), of.n)

    metrics = {"balanced_accuracy": balanced(random)}
    metrics |= {"hard": balanced(*hard.values())} if hard else {}
    metrics |= {source: balanced(negatives) for source, negatives in hard.items()}
    metrics |= {"recall": rate(positives)}
    metrics |= {f"specificity_{source}": rate(of) for source, of in tallies.items()}
    metrics |= {name: rate(of) for name, of in _deciles(groups[POSITIVE]).items()}
    metrics |= _classification(positives, random)
    metrics |= _ranks(groups[POSITIVE] + groups["random"])
    return metrics | _failures(answers, positives, random)


def _metric(interval: Interval, n: int) -> Metric:
    return Metric(interval.value, interval.low, interval.high, n)


def _deciles(positives: Sequence[Answer]) -> Mapping[str, Tally]:
    deciles = sorted({a.decile for a in positives if a.decile is not None})
    return {f"recall_decile_{d}": tally([a for a in positives if a.decile == d]) for d in deciles}


def _classification(positives: Tally, negatives: Tally) -> dict[str, Metric]:
    confusion, n = Confusion.of(positives, negatives), positives.n + negatives.n
    return {
        "precision": Metric(confusion.precision, n=n),
        "f1": Metric(confusion.f1, n=n),
        "mcc": Metric(confusion.mcc, n=n),
    }


def _ranks(answers: Sequence[Answer]) -> dict[str, Metric]:
    """Rank metrics if every label has a probability; a failure ranks at the wrong end."""
    truth, scores = [], []
    for answer in answers:
        positive = answer.source == POSITIVE
        if isinstance(answer, Failure):
            scores.append(-1.0 if positive else 2.0)
        elif answer.probability is None:
            return {}
        else:
            scores.append(answer.probability)
        truth.append(positive)
    n = len(truth)
    return {"auroc": Metric(auroc(truth, scores), n=n), "auprc": Metric(auprc(truth, scores), n=n)}


def _failures(answers: Sequence[Answer], positives: Tally, random: Tally) -> dict[str, Metric]:
    worst, best = failure_bounds(positives, random)
    n = positives.n + random.n
    return {
        "failures": Metric(float(tally(answers).failed), n=len(answers)),
        "worst_case": Metric(worst, n=n),
        "best_case": Metric(best, n=n),
    }
