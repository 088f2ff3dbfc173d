"""Which latents a run is about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autointerp.config import RunConfig
from autointerp.latents import AutointerpError, LatentId
from autointerp.latents.wanted import parse_latents
from autointerp.statistics import derived_generator


def check_range(config: RunConfig, widths: Mapping[str, int]) -> None:
    """Refuse latents that a coder does not have.

    Raises:
        AutointerpError: naming the entry and the coder's width.
    """
    for coder, wanted in config.latents.items():
        indices = parse_latents(wanted, f"latents.{coder}").indices
        if indices and indices[-1] >= widths[coder]:
            raise AutointerpError(
                f"latents.{coder}: {indices[-1]} is out of range; "
                f"{coder} has latents 0 to {widths[coder] - 1}"
            )


def choose(config: RunConfig, firing_counts: Mapping[str, NDArray[np.int64]]) -> list[LatentId]:
    """The latents that the configuration asks for, in order.

    ``alive:N`` is the head of one seeded random order of all latents that fired at least
    once, so that a larger N adds latents and takes none away.
    """
    chosen: list[LatentId] = []
    for coder, wanted in config.latents.items():
        parsed = parse_latents(wanted, f"latents.{coder}")
        counts = firing_counts[coder]
        if parsed.kind == "all":
            indices = np.arange(len(counts))
        elif parsed.kind == "indices":
            indices = np.array(parsed.indices)
        else:
            order = derived_generator(config.run.seed, "alive", coder).permutation(len(counts))
            indices = np.sort(order[counts[order] > 0][: parsed.count])
        chosen += [LatentId(coder, index) for index in indices.tolist()]
    return chosen
