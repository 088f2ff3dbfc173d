"""Discrimination: which of these neighbouring latents' explanations fits this window?

Detection asks whether an explanation fits the latent's windows; a label that fits a whole
neighbourhood passes it. Here each window is of the latent or of one of its decoder-nearest
neighbours, the subject shows all others of them to be inactive in it, and the explanations of all
stand side by side. So windows that neighbours share, of which either answer is true, are not asked
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from ..judges import Chooser, NoVerdict, Pick
from ..latents import (
    AutointerpError,
    Choice,
    Explanation,
    Failure,
    Item,
    LatentId,
    Metric,
    Score,
)
from ..registry import scorers
from ..statistics import balanced_accuracy, derived_generator, failure_bounds
from . import JudgedOptions, Materials, Neighbourhood, Other, Others
from .choices import Answer, choice_metrics, choice_score, rate, request_name, tally
from .labels import blind

HEADLINE = "told_apart"
FEWEST = 5  # windows of the latent, and of its neighbours


class DiscriminationOptions(JudgedOptions):
    """``neighbours`` is how many explanations stand beside the latent's own; ``windows`` how many
    of its windows are asked about at most, and as many of all its neighbours together."""

    neighbours: int = Field(default=4, ge=1, le=8)
    windows: int = Field(default=20, ge=FEWEST)

    def needs(self) -> frozenset[str]:
        return frozenset({"judge", "others"})


@dataclass(frozen=True)
class _Asked:
    """A window, and the option that is right: the explanation of the latent that is active."""

    item: Item
    truth: int
    source: Literal["activating", "neighbour"]


@scorers.register("discrimination", DiscriminationOptions)
class DiscriminationScorer:
    """Headline: ``told_apart``, the balanced accuracy of telling the latent's windows from its
    neighbours' by choosing its explanation for the former and another for the latter. Chance is
    one half, whatever the number of options; a text that says nothing may do better, since its
    neighbours' true explanations can be ruled out. ``accuracy`` counts choices of the very latent.

    Latents without an explained neighbour, or with too few windows that are theirs alone, are
    ``too_few_examples`` and cost nothing.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self,
        options: DiscriminationOptions | None = None,
        seed: int = 0,
        *,
        judge: Chooser,
        others: Others,
    ) -> None:
        if not isinstance(judge, Chooser):
            raise AutointerpError("scorers: discrimination's judge must choose; use pattern or llm")
        self.options = options or DiscriminationOptions()
        self.judge = judge
        self._seed = seed
        self._others = others

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        if materials.test.shortage is not None:
            return self._score([], explanation, [0], [], materials.test.shortage)
        found = await self._others.nearest(
            materials.latent, self.options.neighbours, self.options.windows
        )
        others = found.others
        rng = derived_generator(self._seed, materials.latent, "discrimination")
        places = rng.permutation(len(others) + 1).tolist()  # of the own explanation, then theirs
        asked = self._windows(found, places, rng)
        if not asked:
            return self._score([], explanation, places, others, _too_few(others))
        texts = [explanation.text, *(other.explanation.text for other in others)]
        options = [texts[places.index(i)] for i in range(len(places))]
        shown = blind([one.item.example for one in asked], materials.latent)
        picks = await self.judge.choose(options, shown, latent=materials.latent)
        answers = [_answer(a, p, len(options)) for a, p in zip(asked, picks, strict=True)]
        return self._score(answers, explanation, places, others, None)

    def _windows(
        self, found: Neighbourhood, places: Sequence[int], rng: np.random.Generator
    ) -> list[_Asked]:
        """Windows of the latent and as many of its neighbours, in random order; none if too few."""
        theirs = [(item, n) for n, other in enumerate(found.others, 1) for item in other.windows]
        own, each = found.own, min(len(found.own), len(theirs), self.options.windows)
        if each < FEWEST:
            return []
        mine = [_Asked(own[i], places[0], "activating") for i in rng.permutation(len(own))[:each]]
        foreign = [_Asked(item, places[n], "neighbour") for item, n in _in_turn(theirs, rng)[:each]]
        both = [*mine, *foreign]
        return [both[i] for i in rng.permutation(len(both)).tolist()]

    def _score(
        self,
        answers: list[Answer],
        explanation: Explanation,
        places: Sequence[int],
        others: Sequence[Other],
        reason: str | None,
    ) -> Score:
        return choice_score(
            answers,
            _metrics(answers, places[0]) if answers else {},
            explanation,
            scorer="discrimination",
            judge=self.judge.name,
            headline=HEADLINE,
            chance=0.5,
            reason=reason,
            details={
                "own": places[0],
                "options": _options(explanation.latent, others, places),
            },
        )


def _too_few(others: Sequence[Other]) -> str:
    if not others:
        return "no other latent of its coder is explained"
    return f"under {FEWEST} windows in which it alone of its neighbours is active, or one of them"


def _in_turn(
    theirs: Sequence[tuple[Item, int]], rng: np.random.Generator
) -> list[tuple[Item, int]]:
    """The neighbours' windows in random order, one of each neighbour in turn."""
    mixed = [theirs[i] for i in rng.permutation(len(theirs)).tolist()]
    turns: dict[int, int] = {}
    ranked: list[tuple[int, int, Item, int]] = []
    for item, number in mixed:
        turns[number] = turns.get(number, 0) + 1
        ranked.append((turns[number], len(ranked), item, number))
    return [(item, number) for _, _, item, number in sorted(ranked, key=lambda row: row[:2])]


def _answer(asked: _Asked, pick: Pick | NoVerdict, options: int) -> Answer:
    if isinstance(pick, NoVerdict):
        return Failure(pick.reason, asked.source, asked.item.decile)
    request = request_name(pick.request)
    return Choice(options, asked.truth, pick.chosen, asked.source, asked.item.decile, request)


def _metrics(answers: Sequence[Answer], own: int) -> dict[str, Metric]:
    """See the class; ``own`` is the option that is the latent's explanation. ``worst_case`` and
    ``best_case`` are the headline's."""
    mine = tally([a for a in answers if a.source == "activating"])
    foreign = [a for a in answers if a.source == "neighbour"]
    rejected = tally([_as_told_apart(a, own) for a in foreign])
    worst, best = failure_bounds(mine, rejected)
    return {
        HEADLINE: Metric.of(balanced_accuracy(mine, rejected), len(answers)),
        "recall": rate(mine),
        "rejected": rate(rejected),
        "accuracy_neighbour": rate(tally(foreign)),
        **choice_metrics(answers),
        "worst_case": Metric(worst, n=len(answers)),
        "best_case": Metric(best, n=len(answers)),
    }


def _as_told_apart(answer: Answer, own: int) -> Answer:
    """A choice of any neighbour counts as the right one."""
    if isinstance(answer, Failure) or answer.chosen == own:
        return answer
    return Choice(answer.options, answer.chosen, answer.chosen, answer.source, answer.decile)


def _options(latent: LatentId, others: Sequence[Other], places: Sequence[int]) -> list[str]:
    """Whose explanation each option is."""
    owners = [latent, *(other.explanation.latent for other in others)]
    return [str(owners[places.index(i)]) for i in range(len(places))]
