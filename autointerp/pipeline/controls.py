"""Control explanations: what a scorer reports when the text is not about the latent.

``shuffled`` shows leaks in a scorer (its mean must be chance), ``empty`` what a judge guesses
with nothing to go by, ``neighbour`` how specific the explanations are, and ``token_list`` what
naming the latent's commonest peak tokens would have earned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

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


def controlled(
    explanations: Sequence[Explanation], *, seed: int, limit: int = LIMIT
) -> list[LatentId]:
    """The latents of a run that get controls: a seeded uniform sample of the explained ones.

    Each latent's place depends on (seed, latent) alone, so latents added later change little.
    """
    latents = sorted(_texts(explanations))
    draws = {i: derived_generator(seed, "controlled", i).random() for i in latents}
    return sorted(sorted(latents, key=draws.__getitem__)[:limit])


def shuffled(
    explanations: Sequence[Explanation],
    densities: Mapping[LatentId, float],
    latents: Sequence[LatentId],
    *,
    seed: int,
) -> list[Control]:
    """Each latent with the text of another of its coder and of like density.

    The explained latents of a coder are sorted by density and cut into runs of 8 or a few more;
    in every run the texts go round in one random cycle, so that none stays where it was. Of
    several cycles the one is taken that leaves fewest latents with a text equal to their own. A
    coder with one explained latent has no shuffled control.
    """
    texts = _texts(explanations)
    donors: dict[LatentId, LatentId] = {}
    for coder in sorted({i.coder for i in texts}):
        members = sorted((i for i in texts if i.coder == coder), key=lambda i: (densities[i], i))
        for k, group in enumerate(_runs(members)):
            rng = derived_generator(seed, "shuffled", coder, k)
            cycles = [_cycle(group, rng) for _ in range(_ATTEMPTS)]
            repeats = [sum(texts[i] == texts[d] for i, d in c.items()) for c in cycles]
            donors |= cycles[repeats.index(min(repeats))]
    return [Control("shuffled", i, texts[donors[i]], donors[i]) for i in latents if i in donors]


def empty(latents: Sequence[LatentId], text: str = NOTHING_TEXT) -> list[Control]:
    """Each latent with a text that says nothing, as the run's judge wants it written."""
    return [Control("empty", i, text) for i in latents]


def neighbour(
    explanations: Sequence[Explanation],
    nearest: Callable[[LatentId], Sequence[LatentId]],
    latents: Sequence[LatentId],
) -> list[Control]:
    """Each latent with the text of the decoder-nearest latent that has one.

    ``nearest`` gives a latent's neighbours, nearest first; a latent none of whose neighbours is
    explained has no such control.
    """
    texts = _texts(explanations)
    found = {i: next((d for d in nearest(i) if d in texts and d != i), None) for i in latents}
    return [Control("neighbour", i, texts[d], d) for i, d in found.items() if d is not None]


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


def _texts(explanations: Sequence[Explanation]) -> dict[LatentId, str]:
    return {e.latent: e.text for e in explanations if e.status == "explained"}


def _list_text(tokens: Sequence[str]) -> str:
    return str(Pattern((Clause(tuple(Token(t) for t in tokens)),)))


def _runs(members: Sequence[LatentId]) -> list[list[LatentId]]:
    """Cut into runs of at least ``_BIN`` and less than twice as many, or one shorter run."""
    if len(members) < 2:
        return []
    return [
        [members[i] for i in part]
        for part in np.array_split(range(len(members)), max(1, len(members) // _BIN))
    ]


def _cycle(group: Sequence[LatentId], rng: np.random.Generator) -> dict[LatentId, LatentId]:
    """Everyone's donor when the texts go round the group once, in random order."""
    order = [group[i] for i in rng.permutation(len(group)).tolist()]
    return dict(zip(order, order[1:] + order[:1], strict=True))
