"""Who stands against whom in the contests of one latent, and with whose explanations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..latents import Explanation, LatentId
from ..statistics import derived_generator
from ..subject.direction import Direction
from .contests import Contest
from .effects import Effects

RANDOM = 2  # random directions of each latent
OTHERS = 4  # latents whose explanations take turns in place of the latent's own
TRIED = 4  # times as many latents as there are to be foils


@dataclass(frozen=True)
class Sides:
    """All that the pairs of one latent are made of.

    ``others`` are texts of latents on neither side. One more than take turns, so that each of
    those can be compared with as many as take turns.
    """

    own: Direction
    foils: tuple[Direction, ...]
    random: tuple[Direction, ...]
    text: str
    others: tuple[str, ...]
    nulls: Mapping[Direction, str]  # texts of the random directions that have one
    negative: str | None  # of steering the other way, where activations may be negative

    @property
    def turns(self) -> tuple[str, ...]:
        """The others' texts that take turns in place of the own."""
        return self.others[:OTHERS]

    def contests(self, prompts: int, seed: int) -> list[Contest]:
        """All contests, by prompt; at half of the prompts, drawn at random, the one of the two
        random directions takes the latent's place in the null, at the others the other."""
        own, foils, random, nulls = self.own, self.foils, self.random, list(self.nulls.items())
        rng = derived_generator(seed, own.latent, "intervention", "null")
        swapped = (rng.permutation(prompts) % RANDOM).tolist()
        found = []
        for i in range(prompts):
            # Each of the others' texts is judged with its own share of the pairs. The own text must
            # meet each share in a request of its own too, or a judge could tell whose turn it is.
            lot, foil = i % len(self.turns), foils[i % len(foils)]
            found += [
                Contest("own", self.text, own, foil, i, lot),
                Contest("other", self.turns[lot], own, foil, i, lot),
                Contest("direction", self.text, own, random[i % RANDOM], i, lot),
                Contest("clean", self.text, own, None, i, lot),
                Contest("null", self.text, random[swapped[i]], random[1 - swapped[i]], i, lot),
            ]
            if nulls:
                null, text = nulls[i % len(nulls)]
                found.append(Contest("null_own", text, null, foil, i, lot))
            if self.negative is not None:
                negative = replace(own, sign=-1.0)
                found.append(Contest("negative", self.negative, negative, foil, i, lot))
        return found


async def sides_of(
    effects: Effects,
    explanation: Explanation,
    peers: Sequence[Explanation],
    *,
    foils: int,
    nulls: bool,
    seed: int,
) -> Sides | str:
    """The directions and texts, or why there are none; ``nulls`` wants texts of the random
    directions."""
    latent = explanation.latent
    own = Direction(latent)
    strength = await effects.strength(own)
    if not strength.reachable:
        return f"unreachable: the KL divergence saturates at {strength.kl:.3g} nats"
    others = [e for e in peers if e.latent != latent and e.text != explanation.text]
    others.sort(key=lambda e: e.latent)
    rng = derived_generator(seed, latent, "intervention", "others")
    drawn = [others[i] for i in rng.permutation(len(others)).tolist()]
    if len(drawn) < 2:
        return "too few other latents of the coder have an explanation of another effect"
    other, *drawn = drawn
    against = await _foils(effects, latent, [e for e in drawn if e.text != other.text], foils)
    if not against:
        return "no other latent reaches the KL divergence on this one's SELECT prompts"
    random = tuple(Direction(latent, number) for number in range(RANDOM))
    *texts, negative = await asyncio.gather(
        *(_text(effects, direction, nulls) for direction in random),
        _text(effects, replace(own, sign=-1.0), effects.steering.is_signed(latent.coder)),
    )
    taken = {peer.text for peer in drawn if Direction(peer.latent) in against}
    free = dict.fromkeys([other.text, *(p.text for p in drawn if p.text not in taken)])
    return Sides(
        own=own,
        foils=against,
        random=random,
        text=explanation.text,
        others=tuple(free)[: OTHERS + 1],
        nulls={d: text for d, text in zip(random, texts, strict=True) if text is not None},
        negative=negative,
    )


async def _text(effects: Effects, direction: Direction, wanted: bool) -> str | None:
    """The explanation of a direction's effect, if it is wanted and there is one."""
    written = await effects.write(direction) if wanted else None
    return written.text if written and written.status == "explained" else None


async def _foils(
    effects: Effects, latent: LatentId, drawn: Sequence[Explanation], count: int
) -> tuple[Direction, ...]:
    """The first of the drawn that reach the target on this latent's SELECT prompts: on their
    own, half of which they are active at, the same strength moves less."""
    found: list[Direction] = []
    for peer in drawn[: TRIED * count]:
        direction = Direction(peer.latent)
        if (await effects.strength(direction, latent)).reachable:
            found.append(direction)
        if len(found) == count:
            break
    return tuple(found)
