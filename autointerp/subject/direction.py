"""The name of a direction to steer in; it says nothing of the vector, and needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from autointerp.latents import LatentId


@dataclass(frozen=True)
class Direction:
    """A direction in which to steer, before its strength.

    ``latent`` says whose coder, and so at which hook and in which units. ``random`` None is the
    latent's own decoder row; a number is that one of the latent's random directions, which have
    the covariance of what is at the hook and length 1. ``sign`` −1 steers the other way.
    """

    latent: LatentId
    random: int | None = None
    sign: float = 1.0
