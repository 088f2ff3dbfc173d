"""A base language model as judge: how much likelier than no is yes, after explanation and text?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autointerp.judges import Marks, NoVerdict, Pick, Verdict
from autointerp.judges.base_lm import BaseLM, BaseLMOptions, the_one
from autointerp.judges.windows import marked, quoted, shown
from autointerp.latents import Example, LatentId
from autointerp.llm.at_once import at_once
from autointerp.llm.client import LLMClient
from autointerp.llm.templates import Templates
from autointerp.registry import judges

NO, YES = " 0", " 1"


class LogprobJudgeOptions(BaseLMOptions):
    """``calibrate`` takes away how much the model prefers yes when it is given no explanation:
    small models prefer one answer whatever they read. It doubles the cost."""

    calibrate: bool = True


@judges.register("logprob", LogprobJudgeOptions)
class LogprobJudge:
    """Says yes where the log probability of yes is above that of no.

    The probability of a verdict is that of yes against no. The model has not to be one that
    follows instructions; each window is asked about on its own.
    """

    name = "logprob"

    def __init__(
        self,
        options: LogprobJudgeOptions | None = None,
        seed: int = 0,
        *,
        templates: Templates,
        base_lm: BaseLM | None = None,
        client: LLMClient | None = None,
    ) -> None:
        self.options = options or LogprobJudgeOptions()
        self._templates = templates
        self._lm = the_one(base_lm, client)

    async def detect(
        self, explanation: str, examples: Sequence[Example], *, latent: LatentId
    ) -> list[Verdict | NoVerdict]:
        """One answer an example, from its own tokens.

        Raises:
            BudgetExhausted: if a budget is spent.
            AutointerpError: if the endpoint refuses every request.
        """
        gains = await self._gains(explanation, shown(examples), marks=False)
        return [_verdict(gain) for gain in gains]

    async def fuzz(
        self,
        explanation: str,
        examples: Sequence[Example],
        marks: Sequence[Marks],
        *,
        latent: LatentId,
    ) -> list[Verdict | NoVerdict]:
        """As :meth:`detect`, with the marks in the texts."""
        gains = await self._gains(explanation, marked(examples, marks), marks=True)
        return [_verdict(gain) for gain in gains]

    async def choose(
        self, explanations: Sequence[str], examples: Sequence[Example], *, latent: LatentId
    ) -> list[Pick | NoVerdict]:
        """For each window the explanation after which yes gains most."""
        texts = shown(examples)
        asked = [self._gains(e, texts, marks=False) for e in explanations]
        gains = await at_once(asked)
        return [_pick(of_one) for of_one in zip(*gains, strict=True)]

    async def likelihoods(
        self, explanations: Sequence[str], texts: Sequence[str]
    ) -> list[list[float | str]]:
        """log p(explanation | text) in nats, for each text of each explanation, or why there is
        none."""
        turns = [self._templates.render("judge/effect", text=quoted(text)) for text in texts]
        asked = [(turn.content, f" {e}") for (turn,) in turns for e in explanations]
        found = await self._lm.logprobs(asked)
        size = len(explanations)
        return [list(found[i : i + size]) for i in range(0, len(found), size)]

    async def _gains(
        self, explanation: str, texts: Sequence[dict[str, str]], *, marks: bool
    ) -> list[float | str]:
        """Nats by which yes is likelier than no, or why that is not known."""
        given: list[str | None] = [explanation, None] if self.options.calibrate else [explanation]
        prompts = [self._prompt(e, text, marks) for text in texts for e in given]
        asked = [(prompt, answer) for prompt in prompts for answer in (NO, YES)]
        found = await self._lm.logprobs(asked)
        size = 2 * len(given)
        return [_gain(found[i : i + size]) for i in range(0, len(found), size)]

    def _prompt(self, explanation: str | None, text: dict[str, str], marks: bool) -> str:
        values = {"explanation": explanation, "text": text, "marked": marks}
        (turn,) = self._templates.render("judge/logprob", **values)
        return turn.content


def _gain(found: Sequence[float | str]) -> float | str:
    """``found`` has log p(no) and log p(yes) given the explanation, then given none."""
    nats = [value for value in found if not isinstance(value, str)]
    if len(nats) < len(found):
        return next(value for value in found if isinstance(value, str))
    gains = [yes - no for no, yes in zip(nats[::2], nats[1::2], strict=True)]
    return gains[0] - sum(gains[1:])


def _usable(gain: float | str) -> float | NoVerdict:
    """The gain, if it tells anything."""
    if isinstance(gain, str):
        return NoVerdict(gain)
    return gain if math.isfinite(gain) else NoVerdict(f"yes gains {gain} nats")


def _verdict(gain: float | str) -> Verdict | NoVerdict:
    usable = _usable(gain)
    if isinstance(usable, NoVerdict):
        return usable
    return Verdict(usable > 0, 1 / (1 + math.exp(-max(usable, -500.0))))


def _pick(gains: Sequence[float | str]) -> Pick | NoVerdict:
    usable = [_usable(gain) for gain in gains]
    known = [gain for gain in usable if not isinstance(gain, NoVerdict)]
    if len(known) < len(usable):
        return next(gain for gain in usable if isinstance(gain, NoVerdict))
    return Pick(known.index(max(known)))
