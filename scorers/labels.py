"""What scorers that ask yes/no questions share: asking without leaks, and the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..judges import Judge, Marks, NoVerdict, Verdict
from ..latents import (
    HARD_SOURCES,
    Example,
    Explanation,
    Failure,
    Item,
    Label,
    LatentId,
    Metric,
    Score,
    Source,
)
from ..statistics import (
    Confusion,
    Tally,
    auprc,
    auroc,
    balanced_accuracy,
    derived_generator,
    failure_bounds,
    pair_counts,
    wilson,
)

POSITIVE: Source = "activating"
HEADLINE = "balanced_accuracy"
CHANCE = 0.5
REQUEST_DIGITS = 16  # of a journal key of 40: enough to tell the requests of a run apart
Answer = Label | Failure
_NAN = np.float32(np.nan)


async def ask(
    judge: Judge,
    explanation: Explanation,
    items: Sequence[Item],
    *,
    seed: int,
    purpose: str,
    marks: Sequence[Marks] | None = None,
) -> list[Answer]:
    """Have the judge label every item; the answers come in the items' order.

    The judge meets the items in an order drawn from (seed, latent, purpose), without their
    activations and owners. With ``marks``, one [window] an item, the question is whether the
    explanation fits the marked tokens; else whether it fits any.
    """
    order = derived_generator(seed, explanation.latent, purpose).permutation(len(items)).tolist()
    shown = [items[i] for i in order]
    shown_marks = None if marks is None else [marks[i] for i in order]
    found = await ask_in_order(judge, explanation, shown, shown_marks)
    answers = dict(zip(order, found, strict=True))
    return [answers[i] for i in range(len(items))]


async def ask_in_order(
    judge: Judge,
    explanation: Explanation,
    items: Sequence[Item],
    marks: Sequence[Marks] | None = None,
) -> list[Answer]:
    """:func:`ask`, the judge meeting the items in the order given."""
    latent, text = explanation.latent, explanation.text
    shown = blind([item.example for item in items], latent)
    if marks is None:
        verdicts = await judge.detect(text, shown, latent=latent)
    else:
        verdicts = await judge.fuzz(text, shown, marks, latent=latent)
    return [_answer(item, verdict) for item, verdict in zip(items, verdicts, strict=True)]


def blind(examples: Sequence[Example], latent: LatentId) -> list[Example]:
    """The windows without what tells their truth: a judge that peeks meets NaN."""
    blocks = {id(example.block): example.block for example in examples}
    without = {
        key: replace(block, owner=latent, activations=np.broadcast_to(_NAN, block.token_ids.shape))
        for key, block in blocks.items()
    }
    return [Example(without[id(example.block)], example.row) for example in examples]


def _answer(item: Item, verdict: Verdict | NoVerdict) -> Answer:
    if isinstance(verdict, NoVerdict):
        return Failure(verdict.reason, item.source, item.decile)
    request = verdict.request and verdict.request[:REQUEST_DIGITS]
    return Label(item.truth, verdict.label, verdict.probability, item.source, item.decile, request)


def tally(answers: Sequence[Answer]) -> Tally:
    """Count right answers and failures."""
    labels = [a for a in answers if isinstance(a, Label)]
    right = sum([label.label == label.truth for label in labels])
    return Tally(len(answers), right, len(answers) - len(labels))


def by_source(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """The answers of each source that has any; ``activating`` are the positives."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.source, []).append(answer)
    return groups


def label_score(
    answers: Sequence[Answer],
    explanation: Explanation,
    *,
    scorer: str,
    judge: str,
    against: Source = "random",
    details: Mapping[str, Any],
) -> Score:
    """The score that these answers give the explanation; failed if none of them is usable."""
    failures = [a.reason for a in answers if isinstance(a, Failure)]
    failed = len(failures) == len(answers)
    return Score(
        latent=explanation.latent,
        explanation=explanation.id,
        scorer=scorer,
        judge=judge,
        headline=HEADLINE,
        chance=CHANCE,
        metrics=label_metrics(answers, against=against),
        outcomes=answers,
        status="failed" if failed else "scored",
        reason=f"no item was judged: {failures[0]}" if failed else None,
        details={**details, "pairs": _pairs(answers, against)},
    )


def _pairs(answers: Sequence[Answer], against: Source) -> list[int]:
    """How many matched pairs of a positive and a negative have none, one and both answered right:
    the evidence of e-values. Positives are taken evenly from all deciles."""
    right = {
        truth: [isinstance(a, Label) and a.label == a.truth for a in answers if a.source == source]
        for truth, source in ((True, POSITIVE), (False, against))
    }
    n = min(len(right[True]), len(right[False]))
    evenly = (np.arange(n) * len(right[True]) // max(1, n)).tolist()
    positives = [right[True][i] for i in evenly]
    return [int(count) for count in pair_counts(positives, right[False][:n])]


def too_few(explanation: Explanation, reason: str, *, scorer: str, judge: str) -> Score:
    """The score of a latent that has too few windows for the headline: nothing was asked."""
    return Score(
        latent=explanation.latent,
        explanation=explanation.id,
        scorer=scorer,
        judge=judge,
        headline=HEADLINE,
        chance=CHANCE,
        metrics={},
        outcomes=(),
        status="too_few_examples",
        reason=reason,
    )


def label_metrics(answers: Sequence[Answer], *, against: Source = "random") -> dict[str, Metric]:
    """Every metric of yes/no answers; needs positives and negatives of the source ``against``.

    ``balanced_accuracy``, ``f1``, ``mcc``, ``precision``, ``auroc`` and ``auprc`` are over
    positives and the negatives ``against``; each other source gives its name to the balanced
    accuracy against it alone, and ``hard`` is that against the mean of ``token``, ``neighbour``
    and ``semantic``, where there are any. ``recall_decile_0`` is the weakest positives'. Failures
    are wrong answers, save in ``best_case``.
    """
    groups = by_source(answers)
    tallies = {source: tally(group) for source, group in groups.items()}
    positives, negatives = tallies.pop(POSITIVE), tallies[against]
    others = {source: of for source, of in tallies.items() if source != against}
    hard = [others[source] for source in HARD_SOURCES if source in others]

    def balanced(*negatives: Tally) -> Metric:
        n = positives.n + sum(t.n for t in negatives)
        return Metric.of(balanced_accuracy(positives, *negatives), n)

    def rate(of: Tally) -> Metric:
        return Metric.of(wilson(of), of.n)

    metrics = {HEADLINE: balanced(negatives)}
    metrics |= {"hard": balanced(*hard)} if hard else {}
    metrics |= {source: balanced(of) for source, of in others.items()}
    metrics |= {"recall": rate(positives)}
    metrics |= {f"specificity_{source}": rate(of) for source, of in tallies.items()}
    metrics |= {name: rate(of) for name, of in _deciles(groups[POSITIVE]).items()}
    metrics |= _classification(positives, negatives)
    metrics |= _ranks(groups[POSITIVE] + groups[against])
    return metrics | _failures(answers, positives, negatives)


def _deciles(positives: Sequence[Answer]) -> Mapping[str, Tally]:
    deciles: dict[int, list[Answer]] = {}
    for answer in positives:
        if answer.decile is not None:
            deciles.setdefault(answer.decile, []).append(answer)
    return {f"recall_decile_{d}": tally(deciles[d]) for d in sorted(deciles)}


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


def _failures(answers: Sequence[Answer], positives: Tally, negatives: Tally) -> dict[str, Metric]:
    worst, best = failure_bounds(positives, negatives)
    n = positives.n + negatives.n
    return {
        "failures": Metric(float(tally(answers).failed), n=len(answers)),
        "worst_case": Metric(worst, n=n),
        "best_case": Metric(best, n=n),
    }
