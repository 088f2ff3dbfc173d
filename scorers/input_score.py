"""Input score: does the latent fire on what its logit lens names?

The share of the latent's active TEST windows that peak on one of its top logit-lens tokens; the
random windows tell how common those tokens are. After Arad et al., "SAEs are good for steering, if
you select the right features", 2025.
"""

from __future__ import annotations

from typing import Literal

from ..latents import Example, Explanation, Label, Metric, Score
from ..registry import Options, scorers
from ..statistics import Tally, wilson
from . import Materials
from .labels import POSITIVE

HEADLINE = "share"
FEWEST = 10  # active windows
TOKENS = 20  # of the logit lens


@scorers.register("input_score")
class InputScorer:
    """Scores the latent, not a text: no judge, no model. ``common`` is the share of the tokens of
    random windows that the logit lens names."""

    reads: Literal["input", "output"] | None = None

    def __init__(self, options: Options | None = None, seed: int = 0) -> None:
        self.options = options or Options()

    async def score(self, explanation: Explanation, materials: Materials) -> Score:
        lens = set(materials.evidence.logit_lens[:TOKENS]) if materials.evidence else set()
        active = [i.example for i in materials.test.items if i.source == POSITIVE]
        random = [i.example for i in materials.test.items if i.source == "random"]
        hits = [_peak(example) in lens for example in active]
        reason = None
        if not lens:
            reason = "the logit lens names no tokens"
        elif len(active) < FEWEST:
            reason = f"{len(active)} active TEST windows; {FEWEST} are needed"
        metrics = {}
        if reason is None:
            share = wilson(Tally(len(hits), sum(hits)))
            metrics[HEADLINE] = Metric(share.value, share.low, share.high, len(hits))
            tokens = [token in lens for example in random for token in example.tokens]
            if tokens:
                metrics["common"] = Metric(sum(tokens) / len(tokens), n=len(tokens))
        return Score(
            latent=materials.latent,
            explanation=None,
            scorer="input_score",
            judge="",
            headline=HEADLINE,
            chance=0.0,
            metrics=metrics,
            outcomes=[Label(True, hit, None, POSITIVE) for hit in hits] if metrics else [],
            status="scored" if reason is None else "too_few_examples",
            reason=reason,
        )


def _peak(example: Example) -> str:
    """The text of the token on which the latent is strongest."""
    return example.tokens[int(example.activations.argmax())]
