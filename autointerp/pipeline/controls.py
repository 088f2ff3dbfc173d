"""Control explanations: what a scorer reports when the text is not about the latent.

``shuffled`` shows leaks in a scorer (its mean must be chance), ``empty`` what a judge guesses
with nothing to go by, ``neighbour`` how specific the explanations are, and ``token_list`` what
naming the latent's commonest peak tokens would have earned.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import Explanation, LatentId
from autointerp.patterns import NOTHING_TEXT, Clause, Pattern, Token
from autointerp.statistics import Interval, derived_generator

ControlName = Literal["shuffled", "empty", "neighbour", "token_list"]
CONTROLS: tuple[ControlName, ...] = ("shuffled", "empty", "neighbour", "token_list")
LIMIT = 64
TOKENS = 9
CHANCE_MARGIN = 0.05

_BIN = 8
_ATTEMPTS = 20

Indices = Mapping[str, NDArray[np.int64]]  # latents by coder, ascending
Texts = Callable[[Sequence[LatentId]], Mapping[LatentId, str]]  # of explained latents, by latent


@dataclass(frozen=True)
class Control:
    """A text to be scored on ``latent`` in place of its own; ``donor`` is whose text it is."""

    name: ControlName
    latent: LatentId
    text: str
    donor: LatentId | None = None

    @property
    def explanation(self) -> Explanation:
        """The control as an explanation, so that scorers need not know of controls."""
        reason = None if self.donor is None else f"the text of {self.donor}"
        return Explanation(self.latent, self.text, f"control.{self.name}", reason=reason)


def controlled(latents: Iterable[LatentId], *, seed: int, limit: int = LIMIT) -> list[LatentId]:
    """The latents of a run that get controls: a seeded uniform sample of the explained ones.

    Each latent's place depends on (seed, latent) alone, so latents added later change little.
    """
    draws = ((derived_generator(seed, "controlled", i).random(), i) for i in latents)
    return sorted(latent for _, latent in heapq.nsmallest(limit, draws))


def shuffled(
    explained: Indices,
    densities: Mapping[str, NDArray[np.number[Any]]],
    texts: Texts,
    latents: Sequence[LatentId],
    *,
    seed: int,
) -> list[Control]:
    """Each latent with the text of another of its coder and of like density.

    The explained latents of a coder are sorted by density ([width] a coder) and cut into runs of
    8 or a few more; in every run the texts go round in one random cycle, so that none stays where
    it was. Of several cycles the one is taken that leaves fewest latents with a text equal to
    their own. A coder with one explained latent has no shuffled control. Texts are read of those
    runs alone that have one of ``latents``.
    """
    donors: dict[LatentId, LatentId] = {}
    for coder in sorted({latent.coder for latent in latents}):
        wanted = {latent.index for latent in latents if latent.coder == coder}
        members = explained.get(coder, np.zeros(0, np.int64))
        ranked = members[np.lexsort((members, densities[coder][members]))]
        for k, part in enumerate(_runs(ranked)):
            if not wanted.isdisjoint(part):
                rng = derived_generator(seed, "shuffled", coder, k)
                donors |= _fewest_repeats([LatentId(coder, index) for index in part], texts, rng)
    at = [i for i in latents if i in donors]
    found = texts([donors[i] for i in at])
    return [Control("shuffled", i, found[donors[i]], donors[i]) for i in at]


def _fewest_repeats(
    group: Sequence[LatentId], texts: Texts, rng: np.random.Generator
) -> dict[LatentId, LatentId]:
    found = texts(group)
    cycles = [_cycle(group, rng) for _ in range(_ATTEMPTS)]
    repeats = [sum(found[i] == found[d] for i, d in cycle.items()) for cycle in cycles]
    return cycles[repeats.index(min(repeats))]


def empty(latents: Sequence[LatentId], text: str = NOTHING_TEXT) -> list[Control]:
    """Each latent with a text that says nothing, as the run's judge wants it written."""
    return [Control("empty", i, text) for i in latents]


def neighbour(
    texts: Texts,
    nearest: Callable[[LatentId], Sequence[LatentId]],
    latents: Sequence[LatentId],
) -> list[Control]:
    """Each latent with the text of the decoder-nearest latent that has one.

    ``nearest`` gives a latent's explained neighbours, nearest first; a latent without any has no
    such control.
    """
    found = {i: next((d for d in nearest(i) if d != i), None) for i in latents}
    donors = {i: d for i, d in found.items() if d is not None}
    read = texts([*dict.fromkeys(donors.values())])
    return [Control("neighbour", i, read[d], d) for i, d in donors.items()]


def token_list(
    top_tokens: Mapping[LatentId, Sequence[str]], latents: Sequence[LatentId]
) -> list[Control]:
    """Each latent with a pattern that lists the nine commonest tokens at its peaks.

    ``top_tokens`` has the commonest first; a latent without any has no such control.
    """
    lists = {i: [t for t in top_tokens.get(i, ()) if t][:TOKENS] for i in latents}
    return [Control("token_list", i, _list_text(tokens)) for i, tokens in lists.items() if tokens]


def is_chance(mean: Interval, chance: float = 0.5) -> bool:
    """Whether a control's run mean is where a scorer without leaks puts it, interval and all."""
    return chance - CHANCE_MARGIN <= mean.low and mean.high <= chance + CHANCE_MARGIN


def _list_text(tokens: Sequence[str]) -> str:
    return str(Pattern((Clause(tuple(Token(t) for t in tokens)),)))


def _runs(members: NDArray[np.int64]) -> Iterator[list[int]]:
    """Cut into runs of at least ``_BIN`` and less than twice as many, or one shorter run."""
    if len(members) >= 2:
        yield from (part.tolist() for part in np.array_split(members, max(1, len(members) // _BIN)))


def _cycle(group: Sequence[LatentId], rng: np.random.Generator) -> dict[LatentId, LatentId]:
    """Everyone's donor when the texts go round the group once, in random order."""
    order = [group[i] for i in rng.permutation(len(group)).tolist()]
    return dict(zip(order, order[1:] + order[:1], strict=True))
