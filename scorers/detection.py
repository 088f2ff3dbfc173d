"""Detection: can a judge tell, from the explanation, which windows the latent is active in?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..judges import Judge
from ..latents import Explanation, Failure, LabelledSet, Score
from ..registry import scorers
from . import JudgedOptions, Materials
from .labels import POSITIVE, Answer, ask, label_metrics

HEADLINE = "balanced_accuracy"


@scorers.register("detection", JudgedOptions)
class DetectionScorer:
    """Labels whole windows; headline: balanced accuracy on positives and random negatives.

    Negatives of harder sources are judged too and reported apart. A latent whose set has a
    shortage is ``too_few_examples`` and costs nothing.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self, options: JudgedOptions | None = None, seed: int = 0, *, judge: Judge
    ) -> None:
        self.options = options or JudgedOptions()
        self.seed = seed
        self.judge = judge

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        shortage = _shortage(materials.test)
        if shortage is not None:
            return self._unscored(explanation, materials, shortage)
        answers = await ask(
            self.judge,
            explanation,
            materials.test.items,
            seed=self.seed,
            purpose="detection",
        )
        reason = _all_failed(answers)
        return Score(
            latent=materials.latent,
            explanation=explanation.id,
            scorer="detection",
            judge=self.judge.name,
            headline=HEADLINE,
            chance=0.5,
            metrics=label_metrics(answers),
            outcomes=answers,
            status="scored" if reason is None else "failed",
            reason=reason,
            details={
                "unavailable": dict(materials.test.unavailable),
                "dropped": materials.test.dropped,
            },
        )

    def _unscored(self, explanation: Explanation, materials: Materials, reason: str) -> Score:
        return Score(
            latent=materials.latent,
            explanation=explanation.id,
            scorer="detection",
            judge=self.judge.name,
            headline=HEADLINE,
            chance=0.5,
            metrics={},
            outcomes=(),
            status="too_few_examples",
            reason=reason,
        )


def _shortage(test: LabelledSet) -> str | None:
    """Why the headline cannot be had, if it cannot."""
    if test.shortage is not None:
        return test.shortage
    sources = {item.source for item in test.items}
    if POSITIVE not in sources:
        return "no windows in which the latent is active"
    if "random" not in sources:
        return test.unavailable.get("random", "no random windows in which the latent is inactive")
    return None


def _all_failed(answers: Sequence[Answer]) -> str | None:
    """Why the judge gave no usable answer at all, if it gave none."""
    reasons = [a.reason for a in answers if isinstance(a, Failure)]
    return f"no item was judged: {reasons[0]}" if len(reasons) == len(answers) else None
