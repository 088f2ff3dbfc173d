"""Contests decided by surprisal: after whose continuation is the explanation likelier?

The difference between the two continuations, in nats a word, is taken less its mean over
explanations of other latents, since some continuations make every word likelier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..examples.prefixes import Prompt
from ..judges import NoVerdict
from ..judges.pairs import LikelihoodJudge
from ..judges.windows import separator
from ..latents import Failure, LatentId, Number, Outcome
from .contests import Answers, Contest, continued, moved, strengths_of, used_by
from .effects import Effects, better

Known = Mapping[str, Mapping[str, float | str]]  # by continuation, by explanation


async def by_surprisal(
    judge: LikelihoodJudge,
    effects: Effects,
    prompts: Sequence[Prompt],
    contests: Sequence[Contest],
    others: Sequence[str],
    *,
    latent: LatentId,
) -> tuple[Answers, list[Outcome]]:
    """The answers; and by how many nats a word steering lowers the explanation's surprisal against
    the subject left alone, one number a prompt.

    Args:
        others: explanations to compare each text with, at least one beside the text itself.
    """
    strengths = await strengths_of(effects, used_by(contests), latent)
    written = await continued(effects, strengths, prompts, contests, latent)
    vocabulary = effects.prefixes.vocabulary
    between = separator(vocabulary)
    texts = {
        (direction, prompt): between.join(map(vocabulary.__getitem__, tokens))
        for direction, by_prompt in written.items()
        for prompt, tokens in by_prompt.items()
    }
    explanations = list(dict.fromkeys([*(c.text for c in contests), *others]))
    different = list(dict.fromkeys(texts.values()))
    found = await judge.likelihoods(explanations, different)
    known: Known = {
        text: dict(zip(explanations, row, strict=True))
        for text, row in zip(different, found, strict=True)
    }
    lifts = [
        _lift(known, c.text, texts[c.first, c.prompt], texts[c.second, c.prompt], others)
        for c in contests
    ]
    values = [NoVerdict(x) if isinstance(x, str) else better(x, 0.0) for x in lifts]
    nats: list[Outcome] = [
        Failure(lift, "surprisal") if isinstance(lift, str) else Number(lift, "surprisal")
        for contest, lift in zip(contests, lifts, strict=True)
        if contest.source == "clean"
    ]
    return Answers(values, await moved(effects, strengths, prompts)), nats


def _lift(known: Known, text: str, first: str, second: str, others: Sequence[str]) -> float | str:
    """How much likelier the text is after the first continuation, in nats a word, than the others
    are, or why it is not known."""
    differences = []
    for explanation in (text, *(other for other in others if other != text)):
        after = known[first][explanation], known[second][explanation]
        if isinstance(after[0], str) or isinstance(after[1], str):
            return next(reason for reason in after if isinstance(reason, str))
        differences.append((after[0] - after[1]) / max(1, len(explanation.split())))
    own, *rest = differences
    return own - sum(rest) / len(rest)
