"""Contests between two directions: at one prompt, whose effect fits a text better?

Judges that read answer from sampled continuations; judges of tokens from how much likelier the
next token became one of those that the text names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..examples.prefixes import Prompt
from ..judges import NoVerdict
from ..judges.pairs import PairJudge, TextPair, TokenJudge
from ..judges.windows import separator
from ..latents import LatentId
from ..statistics import derived_generator
from ..subject.direction import Direction
from .effects import Effects, better, rises

TOKENS = 8  # of a continuation


@dataclass(frozen=True)
class Contest:
    """``text`` is right if it is found to fit ``first`` better than ``second``; ``second`` None is
    the subject left alone. ``prompt`` counts the prompts. Only contests of one ``source`` and
    ``lot`` are asked about together."""

    source: str
    text: str
    first: Direction
    second: Direction | None
    prompt: int
    lot: int = 0


@dataclass(frozen=True)
class Answers:
    """For every contest 1 (right), 0 or ½ (undecided), or why there is none; and the mean KL, in
    nats, of each direction over all prompts."""

    values: list[float | NoVerdict]
    kl: Mapping[Direction, float]


async def by_tokens(
    judge: TokenJudge,
    effects: Effects,
    prompts: Sequence[Prompt],
    contests: Sequence[Contest],
    *,
    latent: LatentId,
) -> Answers:
    """Whose effect raises the probability of the text's tokens more, in nats.

    Raises:
        AutointerpError: if the judge cannot read a text.
    """
    vocabulary = effects.prefixes.vocabulary
    texts = {text: i for i, text in enumerate(dict.fromkeys(c.text for c in contests))}
    sets = [judge.promoted(text, vocabulary) for text in texts]
    used = used_by(contests)
    strengths = await strengths_of(effects, used, latent)
    measured = await asyncio.gather(
        *(rises(effects, d, strengths[d], [prompts[i] for i in at], sets) for d, at in used.items())
    )
    risen: dict[Direction | None, Mapping[int, Sequence[float]]] = {
        d: dict(zip(at, found.T.tolist(), strict=True))
        for (d, at), found in zip(used.items(), measured, strict=True)
    }
    risen[None] = dict.fromkeys(range(len(prompts)), [0.0] * len(sets))
    values: list[float | NoVerdict] = [
        better(risen[c.first][c.prompt][texts[c.text]], risen[c.second][c.prompt][texts[c.text]])
        for c in contests
    ]
    return Answers(values, await moved(effects, strengths, prompts))


async def by_reading(
    judge: PairJudge,
    effects: Effects,
    prompts: Sequence[Prompt],
    contests: Sequence[Contest],
    *,
    latent: LatentId,
    seed: int,
) -> Answers:
    """Which continuation, sampled with the same noise, the judge finds to fit the text better.

    Every pair is shown in both orders, in different requests; where the answers differ it is
    undecided, and so is a pair of equal continuations, which costs nothing. No request has a
    prompt twice, and a lot is shown alike whatever its source: where two sources have the same
    pairs, a judge that goes by the pairs alone answers both alike.
    """
    between = separator(effects.prefixes.vocabulary)
    words = effects.prefixes.vocabulary.__getitem__
    strengths = await strengths_of(effects, used_by(contests), latent)
    written = await continued(effects, strengths, prompts, contests, latent)

    def text(tokens: Sequence[int]) -> str:
        return between.join(map(words, tokens))

    pairs = [
        TextPair(
            text(prompts[c.prompt].tolist()),
            text(written[c.first][c.prompt]),
            text(written[c.second][c.prompt]),
        )
        for c in contests
    ]
    values: list[float | NoVerdict] = [0.5] * len(contests)
    together: dict[tuple[str, int, str], list[int]] = {}
    for i, c in enumerate(contests):
        if pairs[i].first != pairs[i].second:
            together.setdefault((c.source, c.lot, c.text), []).append(i)

    async def read(lot: int, wanted: str, at: Sequence[int]) -> None:
        rng = derived_generator(seed, latent, "intervention", "order", lot)
        turned = [bool(bit) for bit in rng.integers(2, size=len(at))]
        found = await _both_orders(judge, wanted, [pairs[i] for i in at], turned)
        for i, value in zip(at, found, strict=True):
            values[i] = value

    await asyncio.gather(*(read(lot, text, at) for (_, lot, text), at in together.items()))
    return Answers(values, await moved(effects, strengths, prompts))


async def _both_orders(
    judge: PairJudge,
    text: str,
    pairs: Sequence[TextPair],
    turned: Sequence[bool],
) -> list[float | NoVerdict]:
    """How often of two times each pair's first was chosen; ``turned`` are shown second first."""
    rounds = [list(turned), [not turn for turn in turned]]
    replies = await asyncio.gather(
        *(
            judge.prefer(
                text,
                [p.turned if turn else p for p, turn in zip(pairs, turns, strict=True)],
            )
            for turns in rounds
        )
    )
    values: list[float | NoVerdict] = []
    for (one, two), turn in zip(zip(*replies, strict=True), turned, strict=True):
        if isinstance(one, NoVerdict) or isinstance(two, NoVerdict):
            values.append(one if isinstance(one, NoVerdict) else two)
        else:
            values.append(((one == int(turn)) + (two == int(not turn))) / 2)
    return values


async def continued(
    effects: Effects,
    strengths: Mapping[Direction, float],
    prompts: Sequence[Prompt],
    contests: Sequence[Contest],
    latent: LatentId,
) -> dict[Direction | None, dict[int, list[int]]]:
    """The continuations of each direction, and of none, by prompt."""

    async def sampled(direction: Direction | None, at: Sequence[int]) -> dict[int, list[int]]:
        s = 0.0 if direction is None else strengths[direction]
        found = await effects.steering.continuations(
            direction, s, [prompts[i] for i in at], TOKENS, 1.0, "intervention", noise_of=latent
        )
        return {i: tokens.tolist() for i, tokens in zip(at, found, strict=True)}

    wanted: dict[Direction | None, list[int]] = dict(used_by(contests).items())
    clean = sorted({c.prompt for c in contests if c.second is None})
    if clean:
        wanted[None] = clean
    written = await asyncio.gather(*(sampled(d, at) for d, at in wanted.items()))
    return dict(zip(wanted, written, strict=True))


async def strengths_of(
    effects: Effects, directions: Iterable[Direction], latent: LatentId
) -> dict[Direction, float]:
    """The strength of each direction at the target KL on the SELECT prompts of one latent."""
    named = list(directions)
    found = await asyncio.gather(*(effects.strength(direction, latent) for direction in named))
    return {direction: strength.s for direction, strength in zip(named, found, strict=True)}


async def moved(
    effects: Effects, strengths: Mapping[Direction, float], prompts: Sequence[Prompt]
) -> dict[Direction, float]:
    """Each direction's mean KL over all prompts, those of its contests among them."""
    kls = [effects.steering.kl(direction, s, prompts) for direction, s in strengths.items()]
    return dict(zip(strengths, await asyncio.gather(*kls), strict=True))


def used_by(contests: Sequence[Contest]) -> dict[Direction, list[int]]:
    """The prompts at which each direction is needed, ascending."""
    found: dict[Direction, set[int]] = {}
    for contest in contests:
        for direction in (contest.first, contest.second):
            if direction is not None:
                found.setdefault(direction, set()).add(contest.prompt)
    return {direction: sorted(at) for direction, at in found.items()}
