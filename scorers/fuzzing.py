"""Fuzzing: can a judge tell, from the explanation, whether the marked tokens are the latent's?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from weakref import WeakKeyDictionary

from ..judges import Judge
from ..latents import Explanation, LabelledSet, Score
from ..registry import scorers
from . import Materials, Scorer
from .blocks import BlockOptions, sequential_score
from .delphi_protocol import protocol_score
from .labels import ask, label_score, too_few
from .marking import Marked, alone, mark


@scorers.register("fuzzing", BlockOptions)
class FuzzingScorer:
    """Labels windows by their marked tokens; headline: balanced accuracy on active windows with
    their own marks and with another's (source ``donor``).

    Windows without any activity that carry such marks are judged too and reported apart (source
    ``random``). A latent for which fewer than ten ``donor`` windows can be found has no headline:
    it is ``too_few_examples`` and costs nothing. Those are latents with fewer than 20 windows, or
    active on so much of them that marks cannot be put elsewhere.

    The control ``marked_only`` asks about the marked tokens without the text around them.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self,
        options: BlockOptions | None = None,
        seed: int = 0,
        *,
        judge: Judge,
        marked_only: bool = False,
    ) -> None:
        self.options = options or BlockOptions()
        self.seed = seed
        self.judge = judge
        self.controls: Mapping[str, Scorer] = {}
        if not marked_only and self.options.protocol == "standard":
            control = FuzzingScorer(self.options, seed, judge=judge, marked_only=True)
            self.controls = {"marked_only": control}
        self._marked_only = marked_only
        self._kept: WeakKeyDictionary[LabelledSet, Marked] = WeakKeyDictionary()

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        if self.options.protocol == "delphi":
            return await protocol_score(
                explanation, materials, self.judge, scorer="fuzzing", marked=True
            )
        test = materials.test
        found = self._marked(test)
        if found.shortage is not None:
            return too_few(explanation, found.shortage, scorer="fuzzing", judge=self.judge.name)
        details = {"unavailable": found.unavailable, "dropped": test.dropped}
        if self.options.sequential:
            return await sequential_score(
                self.judge,
                explanation,
                found.items,
                self.options,
                seed=self.seed,
                scorer="fuzzing",
                marks=found.marks,
                against="donor",
                details=details,
            )
        answers = await ask(
            self.judge,
            explanation,
            found.items,
            seed=self.seed,
            purpose="fuzzing",
            marks=found.marks,
        )
        return label_score(
            answers,
            explanation,
            scorer="fuzzing",
            judge=self.judge.name,
            against="donor",
            details=details,
        )

    def _marked(self, test: LabelledSet) -> Marked:
        """What is asked about a set; kept for its other explanations."""
        if test not in self._kept:
            found = mark(test, self.seed)
            self._kept[test] = _only_marked(found) if self._marked_only else found
        return self._kept[test]


def _only_marked(found: Marked) -> Marked:
    """The same items without the tokens that are not marked."""
    pairs = list(zip(found.items, found.marks, strict=True))
    items = [item._replace(example=alone(item.example, marks)) for item, marks in pairs]
    return found._replace(items=items, marks=[marks[marks] for marks in found.marks])
