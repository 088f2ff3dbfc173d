"""Windows that a judge, who has only the explanation, gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.judges import Judge, NoVerdict
from autointerp.latents import Example, LatentId
from autointerp.statistics import derived_generator


@dataclass(frozen=True)
class Mistakes:
    """Active windows that were ``missed``, inactive ones ``wrongly_found``, out of ``judged``."""

    missed: Sequence[Example]
    wrongly_found: Sequence[Example]
    judged: int
    unjudged: int

    def __bool__(self) -> bool:
        return bool(self.missed or self.wrongly_found)

    def counts(self) -> dict[str, int]:
        return {
            "judged": self.judged,
            "missed": len(self.missed),
            "wrongly_found": len(self.wrongly_found),
            "unjudged": self.unjudged,
        }


async def mistakes(
    judge: Judge,
    explanation: str,
    active: Sequence[Example],
    silent: Sequence[Example],
    *,
    latent: LatentId,
    seed: int,
) -> Mistakes:
    """Have ``judge`` label the windows in an order that tells nothing, and compare."""
    examples = [*active, *silent]
    order = derived_generator(seed, latent, "counterexamples").permutation(len(examples)).tolist()
    verdicts = await judge.detect(explanation, [examples[i] for i in order], latent=latent)
    answers = dict(zip(order, verdicts, strict=True))
    labels = {i: a.label for i, a in answers.items() if not isinstance(a, NoVerdict)}
    middle = len(active)
    return Mistakes(
        missed=[examples[i] for i in range(middle) if labels.get(i) is False],
        wrongly_found=[examples[i] for i in range(middle, len(examples)) if labels.get(i)],
        judged=len(labels),
        unjudged=len(examples) - len(labels),
    )
