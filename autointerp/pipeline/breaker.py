"""Stops a run that is going wrong before it spends more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from autointerp.pipeline.rows import TRUE, Scored

FIRST_LOOK = 200  # latents
MOST_FAILED = 0.2
FEWEST_DIFFERENCES = 20


class StoppedError(Exception):
    """The run was stopped and can be resumed; the message says why."""


@dataclass
class Breaker:
    """Watches one stage: shares of failed latents, and true minus shuffled scores."""

    latents: int = 0
    failed: int = 0
    _differences: list[float] = field(default_factory=list)

    def record(self, *, failed: bool, differences: list[float] | None = None) -> None:
        """Take note of one finished latent; of several ``differences``, their mean.

        Raises:
            StoppedError: after 200 latents, if over 20 % failed, or if what sets true explanations
                apart from shuffled ones has a 95 % interval that includes zero.
        """
        self.latents += 1
        self.failed += failed
        if differences:  # scorers of one latent agree: they are no evidence apart
            self._differences.append(sum(differences) / len(differences))
        if self.latents >= FIRST_LOOK:
            self._judge()

    def _judge(self) -> None:
        if self.failed > MOST_FAILED * self.latents:
            raise StoppedError(
                f"{self.failed} of {self.latents} latents failed; see log.jsonl, "
                "then run again to continue (--retry-failed: with these too)"
            )
        n = len(self._differences)
        if n < FEWEST_DIFFERENCES:
            return
        mean = sum(self._differences) / n
        variance = sum((d - mean) ** 2 for d in self._differences) / (n - 1)
        low = mean - 1.96 * sqrt(variance / n)
        if low <= 0:
            raise StoppedError(
                f"explanations score no better than shuffled ones: {mean:+.3f}, from {low:+.3f} "
                f"(95 %), over {n} explanations; check the hook points, then run again to continue"
            )


def differences(scores: Sequence[Scored]) -> list[float]:
    """True minus shuffled of one latent, by scorer, where there are both."""
    values = {
        (x.score.scorer, x.control): x.score.metrics[x.score.headline].value
        for x in scores
        if x.score.status == "scored"
    }
    return [
        value - values[scorer, "shuffled"]
        for (scorer, control), value in values.items()
        if control == TRUE and (scorer, "shuffled") in values
    ]
