"""Materials for scorers, of sets that are built already."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autointerp.latents import LabelledSet, LatentId
from autointerp.scorers import Materials


def with_test(latent: LatentId, test: LabelledSet, **more: Any) -> Materials:
    return Materials(latent, lambda: test, **more)


def with_set(materials: Materials, test: LabelledSet) -> Materials:
    """The same materials with another set."""
    return replace(materials, labelled=lambda: test)


def without_set(latent: LatentId, **more: Any) -> Materials:
    """Materials for a scorer that looks at no set."""

    def labelled() -> LabelledSet:
        raise AssertionError("no set is to be looked at")

    return Materials(latent, labelled, **more)
