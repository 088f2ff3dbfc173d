"""What steering adds: a latent's decoder row, or a random direction to compare it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.statistics import derived_generator
from autointerp.subject.coders import BLOCK_ELEMENTS, SparseCoder
from autointerp.subject.direction import Direction
from autointerp.subject.model import HookPoint, Subject

Coders = Mapping[str, tuple[SparseCoder, HookPoint, HookPoint | None]]  # what `Attached` is

STATES = 4096  # of a hook, from which random directions learn the covariance


@dataclass(frozen=True, eq=False)
class Place:
    """A coder, the hook it reads, and the hook that steering writes."""

    coder: SparseCoder
    reads: HookPoint
    writes: HookPoint


class Directions:
    """The vectors of directions, on the subject's device in float32.

    A random direction is a random mix of ``texts``' states at the hook, centred: its covariance
    is theirs. It depends on the seed, the latent and its number only.
    """

    def __init__(
        self, subject: Subject, attached: Coders, texts: Sequence[NDArray[np.int32]], seed: int
    ) -> None:
        self._subject, self._texts, self._seed = subject, texts, seed
        self.places = {n: Place(c, hook, to or hook) for n, (c, hook, to) in attached.items()}
        self._states: dict[HookPoint, Tensor] = {}

    def vector(self, direction: Direction) -> Tensor:
        """The vector [d_out] of a direction, its sign included."""
        place = self.places[direction.latent.coder]
        if direction.random is None:
            row: Tensor = place.coder.W_dec[direction.latent.index].float()
            return direction.sign * row
        states = self._states_at(place.writes)
        generator = derived_generator(self._seed, "random", direction.latent, direction.random)
        weights = torch.from_numpy(generator.standard_normal(len(states), np.float32))
        mixed: Tensor = weights.to(states.device) @ states
        return mixed * (direction.sign / float(mixed.norm()))

    def _states_at(self, hook: HookPoint) -> Tensor:
        """Centred states [n, d] of the texts' tokens at a hook."""
        if hook not in self._states:
            found: dict[int, Tensor] = {}
            masked = self._subject.masked
            for batch in self._subject.activations(self._texts, [hook]):
                for row, state, length in zip(
                    batch.rows, batch.states[hook], batch.lengths, strict=True
                ):
                    found[row] = state[masked:length].float().clone()
            states = torch.cat([found[row] for row in sorted(found)])
            every = max(1, len(states) // STATES)
            states = states[::every][:STATES]
            self._states[hook] = states - states.mean(0)
        return self._states[hook]


def check_direction(direction: Direction, attached: Coders, can_mix: bool) -> None:
    """Raise AutointerpError if there is no such latent, or no texts to make a random one of."""
    latent = direction.latent
    if latent.coder not in attached:
        known = ", ".join(attached)
        raise AutointerpError(f"no coder {latent.coder!r} to steer with (known: {known})")
    width = attached[latent.coder][0].d_sae
    if not 0 <= latent.index < width:
        raise AutointerpError(f"{latent} is out of range; {latent.coder} has {width} latents")
    if direction.random is not None and not can_mix:
        raise AutointerpError(
            f"a random direction beside {latent} needs texts to learn the hook's covariance"
            " from; give Steering some"
        )


def activations_of(coder: SparseCoder, x: Tensor, latents: Tensor) -> Tensor:
    """The activation of one latent a token, ``latents`` [n] on x [n, d_in]: [n]."""
    size = _together(coder)
    parts = [
        coder.encode(some).gather(1, own[:, None])[:, 0]
        for some, own in zip(torch.split(x, size), torch.split(latents, size), strict=True)
    ]
    return torch.cat(parts).float()


def largest_activations(coder: SparseCoder, x: Tensor) -> Tensor:
    """The largest activation of any latent, in size, at each token x [n, d_in]: [n]."""
    parts = [coder.encode(some).abs().amax(1) for some in torch.split(x, _together(coder))]
    return torch.cat(parts).float()


def _together(coder: SparseCoder) -> int:
    """How many tokens are encoded at once, so that their dense activations fit into memory."""
    return max(1, BLOCK_ELEMENTS // coder.d_sae)
