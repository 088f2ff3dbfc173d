"""Detection: can a judge tell, from the explanation, which windows the latent is active in?"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..judges import Judge
from ..latents import Explanation, Score
from ..registry import scorers
from . import Materials
from .blocks import BlockOptions, sequential_score
from .delphi_protocol import protocol_score
from .labels import ask, label_score, too_few
from .natural import precision_metric
from .ranks import shortage


@scorers.register("detection", BlockOptions)
class DetectionScorer:
    """Labels whole windows; headline: balanced accuracy on positives and random negatives.

    ``natural_precision`` is the precision at the latent's own rate, where it can be known.
    Negatives of harder sources are judged too and reported apart. A latent whose set has a
    shortage is ``too_few_examples`` and costs nothing.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(self, options: BlockOptions | None = None, seed: int = 0, *, judge: Judge) -> None:
        self.options = options or BlockOptions()
        self.seed = seed
        self.judge = judge

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        if self.options.protocol == "delphi":
            return await protocol_score(
                explanation, materials, self.judge, scorer="detection", marked=False
            )
        if (reason := shortage(materials.test)) is not None:
            return too_few(explanation, reason, scorer="detection", judge=self.judge.name)
        test = materials.test
        details = {"unavailable": dict(test.unavailable), "dropped": test.dropped}
        if self.options.sequential:
            return await sequential_score(
                self.judge,
                explanation,
                test.items,
                self.options,
                seed=self.seed,
                scorer="detection",
                details=details,
            )
        answers = await ask(
            self.judge, explanation, test.items, seed=self.seed, purpose="detection"
        )
        score = label_score(
            answers, explanation, scorer="detection", judge=self.judge.name, details=details
        )
        natural = precision_metric(self.judge, explanation, materials, test.items, answers)
        return replace(score, metrics={**score.metrics, **natural})
