"""What scorers that ask for a choice share: telling the options apart by nothing else, metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..latents import Choice, Explanation, Failure, Metric, Score
from ..statistics import Tally, wilson
from .labels import REQUEST_DIGITS

Answer = Choice | Failure


def request_name(key: str | None) -> str | None:
    """How an outcome names the request with this journal key."""
    return key and key[:REQUEST_DIGITS]


def right(answer: Answer) -> bool:
    """Whether the right option was chosen; a failure is wrong."""
    return isinstance(answer, Choice) and answer.chosen == answer.truth


def tally(answers: Sequence[Answer]) -> Tally:
    """Count right choices and failures."""
    failed = sum(isinstance(a, Failure) for a in answers)
    return Tally(len(answers), sum(map(right, answers)), failed)


def rate(of: Tally) -> Metric:
    """The rate of right answers with Wilson's interval."""
    return Metric.of(wilson(of), of.n)


def choice_metrics(answers: Sequence[Answer]) -> dict[str, Metric]:
    """``accuracy`` over all answers and by decile, and ``failures``, which are wrong answers, save
    in ``best_case``."""
    every = tally(answers)
    deciles = sorted({a.decile for a in answers if a.decile is not None})
    of_decile = {d: [a for a in answers if a.decile == d] for d in deciles}
    return {
        "accuracy": rate(every),
        **{f"accuracy_decile_{d}": rate(tally(part)) for d, part in of_decile.items()},
        "failures": Metric(float(every.failed), n=every.n),
        "worst_case": Metric(every.worst, n=every.n),
        "best_case": Metric(every.best, n=every.n),
    }


def choice_score(
    answers: Sequence[Answer],
    metrics: Mapping[str, Metric],
    explanation: Explanation,
    *,
    scorer: str,
    judge: str,
    headline: str,
    chance: float,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Score:
    """The score of these answers: failed if none is usable. Without any, there were too few
    windows to ask about, as ``reason`` says."""
    failures = [a.reason for a in answers if isinstance(a, Failure)]
    failed = bool(answers) and len(failures) == len(answers)
    return Score(
        latent=explanation.latent,
        explanation=explanation.id,
        scorer=scorer,
        judge=judge,
        headline=headline,
        chance=chance,
        metrics=metrics,
        outcomes=answers,
        status="failed" if failed else "scored" if answers else "too_few_examples",
        reason=f"no item was judged: {failures[0]}" if failed else reason,
        details=details or {},
    )
