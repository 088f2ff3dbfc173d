"""Whether there is anything to score."""

from __future__ import annotations

from collections.abc import Sequence

from autointerp.latents import AutointerpError, LatentId
from autointerp.pipeline.plan import blocks
from autointerp.pipeline.session import Session
from autointerp.registry import scorers


def check_explained(s: Session, latents: Sequence[LatentId] | None = None) -> None:
    """Refuse to score what nobody has explained: any latents of the run or, if given, these.

    Raises:
        AutointerpError: naming what lacks explanations, and what makes them.
    """
    which = "" if latents is None else " of these latents"
    for section in s.config.scorers:
        kind = section["kind"]
        if scorers.get(kind).implementation.reads == "output":
            if not _are_there(s, s.config.effects["kind"], latents):
                raise AutointerpError(
                    f"{kind} needs explanations of effects, and {s.path} has none{which};"
                    " `autointerp explain` (or `run`) with the same options makes them"
                )
        elif not _are_there(s, s.explainer, latents):
            raise AutointerpError(
                f"{s.path} has no explanations{which} to score; `autointerp explain` makes them"
            )


def _are_there(s: Session, explainer: str, latents: Sequence[LatentId] | None) -> bool:
    if latents is None:
        return bool(s.explained.statuses(explainer))
    read = s.explained.of
    return any(next(read(block, explainer), None) for block in blocks(latents))
