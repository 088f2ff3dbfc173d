"""Surprisal: does the explanation make a latent's windows likelier to a language model?

log p(text given the explanation) − log p(text given a generic one), in nats, of a base model.
"""

from __future__ import annotations

from typing import Literal

from ..judges.base_lm import BaseLM, BaseLMOptions, the_one
from ..judges.windows import plain
from ..latents import Explanation, Score
from ..llm.client import LLMClient
from ..llm.templates import Templates
from ..registry import scorers
from . import Materials
from .ranks import rank_score, ranked, shortage, too_few


@scorers.register("surprisal", BaseLMOptions)
class SurprisalScorer:
    """Nats that the explanation gains; headline: AUROC of positives against random negatives.

    Outcomes are the gains. The model reads the explanation and the window, without what stands
    before the window: small base models forget an explanation that is far off. That the
    explanation's topic or its style makes a text likelier counts too: the scores of shuffled
    explanations tell how much.
    """

    reads: Literal["input", "output"] | None = "input"

    def __init__(
        self,
        options: BaseLMOptions | None = None,
        seed: int = 0,
        *,
        templates: Templates,
        base_lm: BaseLM | None = None,
        client: LLMClient | None = None,
    ) -> None:
        self.options = options or BaseLMOptions()
        self._templates = templates
        self._lm = the_one(base_lm, client)

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        """Measure every window twice.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        test = materials.test
        if (reason := shortage(test)) is not None:
            return too_few(explanation, reason, "surprisal")
        windows = plain([item.example for item in test.items])
        prefixes = [self._prefix(explanation.text), self._prefix(None)]
        asked = [(prefix, w.text) for prefix in prefixes for w in windows]
        found = await self._lm.logprobs(asked)
        given, generic = found[: len(windows)], found[len(windows) :]
        gains = [_gain(*pair) for pair in zip(given, generic, strict=True)]
        return rank_score(ranked(test.items, gains), explanation, "surprisal", test)

    def _prefix(self, explanation: str | None) -> str:
        (turn,) = self._templates.render("judge/surprisal", explanation=explanation)
        return turn.content + "\n"


def _gain(given: float | str, generic: float | str) -> float | str:
    if isinstance(given, str):
        return given
    return generic if isinstance(generic, str) else given - generic
