"""What contests come to: shares of right answers, and what an explanation has over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..judges import NoVerdict
from ..latents import Failure, Metric, Number, Outcome
from ..statistics import Tally, bootstrap_mean, wilson
from ..subject.direction import Direction
from .contests import Answers, Contest
from .effects import is_equal

HEADLINE = "gain"
FEWEST = 10  # pairs at equal KL
UNEQUAL = "unequal "  # before the source of a pair at unequal KL

Verdict = Literal["scored", "failed", "too_few_examples"]


@dataclass(frozen=True)
class Table:
    """The contests and their answers, and what they come to."""

    contests: Sequence[Contest]
    answers: Answers
    kinds: Sequence[str]  # by prompt: neutral or activating
    target: float
    seed: int

    def _ratio(self, direction: Direction | None) -> float:
        return 1.0 if direction is None else self.answers.kl[direction] / self.target

    def _equal(self, contest: Contest) -> bool:
        return all(is_equal(self._ratio(side)) for side in (contest.first, contest.second))

    def outcomes(self) -> list[Outcome]:
        found: list[Outcome] = []
        for contest, value in zip(self.contests, self.answers.values, strict=True):
            source = f"{contest.source} {self.kinds[contest.prompt]}"
            source = source if self._equal(contest) else f"{UNEQUAL}{source}"
            if isinstance(value, NoVerdict):
                found.append(Failure(value.reason, source))
            else:
                found.append(Number(value, source))
        return found

    def metrics(self) -> dict[str, Metric]:
        """Shares of right answers at equal KL by source; the headline and its bounds."""
        found = self._gains()
        outcomes = self.outcomes()
        for source in dict.fromkeys(contest.source for contest in self.contests):
            for kind in ("", *dict.fromkeys(self.kinds)):
                wanted = f"{source} {kind}"
                members = [o for o in outcomes if o.source.startswith(wanted)]
                found |= share(f"{source}_{kind}".rstrip("_"), members)
        own = [c for c in self.contests if c.source == "own"]
        n = len(outcomes)
        failures = sum(isinstance(o, Failure) for o in outcomes)
        return found | {
            "kl_ratio": Metric(self._ratio(own[0].first), n=len(own)),
            "unequal": Metric(float(sum(not self._equal(c) for c in own)), n=len(own)),
            "failures": Metric(float(failures), n=n),
        }

    def _gains(self) -> dict[str, Metric]:
        """The headline; a failure is wrong for the own text, and right for the other's."""
        worst, best = self._differences(0.0, 1.0), self._differences(1.0, 0.0)
        if not worst:
            return {}
        interval = bootstrap_mean(worst, [""] * len(worst), seed=self.seed)
        n = len(worst)
        return {
            HEADLINE: Metric(interval.value, interval.low, interval.high, n),
            "worst_case": Metric(interval.value, n=n),
            "best_case": Metric(float(np.mean(best)), n=n),
        }

    def _differences(self, own_failed: float, other_failed: float) -> list[float]:
        """Own less other by pair at equal KL; failures count as given."""
        values: dict[str, dict[int, float]] = {"own": {}, "other": {}}
        failed = {"own": own_failed, "other": other_failed}
        for contest, value in zip(self.contests, self.answers.values, strict=True):
            if contest.source in values and self._equal(contest):
                known = failed[contest.source] if isinstance(value, NoVerdict) else value
                values[contest.source][contest.prompt] = known
        return [value - values["other"][i] for i, value in values["own"].items()]

    def verdict(self) -> tuple[Verdict, str | None]:
        """The status of the score, and the reason unless it is scored."""
        failures = [v.reason for v in self.answers.values if isinstance(v, NoVerdict)]
        if len(failures) == len(self.answers.values):
            return "failed", f"no pair was judged: {failures[0]}"
        pairs = len(self._differences(0.0, 1.0))
        if pairs >= FEWEST:
            return "scored", None
        ratio = self._ratio(self.contests[0].first)
        few = f"{pairs} pairs at equal KL; on TEST the latent's is {ratio:.2f} of the target"
        return "too_few_examples", few


def share(name: str, outcomes: Sequence[Outcome]) -> dict[str, Metric]:
    """The mean with Wilson's interval; failures are wrong and undecided ones half right."""
    n = len(outcomes)
    if not n:
        return {}
    halves = round(2 * sum(o.value for o in outcomes if isinstance(o, Number)))
    interval = wilson(Tally(2 * n, halves), design_effect=2.0)
    return {name: Metric(interval.value, interval.low, interval.high, n)}


def mean_of(outcomes: Sequence[Outcome]) -> dict[str, Metric]:
    """The mean of outcomes of one source, under its name, of those that did not fail."""
    values = [o.value for o in outcomes if isinstance(o, Number)]
    if not values:
        return {}
    interval = bootstrap_mean(values, [""] * len(values))
    return {outcomes[0].source: Metric(interval.value, interval.low, interval.high, len(values))}
