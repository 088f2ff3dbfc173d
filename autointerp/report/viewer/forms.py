"""What a page was asked for: the fields of a form, checked, and back to an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from autointerp.latents import AutointerpError, LatentId
from autointerp.report.viewer.facets import Choice
from autointerp.report.viewer.index import Index
from autointerp.report.viewer.listed import Direction, Order, Query
from autointerp.report.viewer.search import LONGEST, terms

FIELDS = ("q", "coder", "status", "score", "density", "sort")


@dataclass(frozen=True)
class Asked:
    """A search as it was asked for. ``fields`` has those that were filled in."""

    fields: Mapping[str, str]
    query: Query
    unsearchable: bool = False  # there was something typed, but no letter or digit in it

    def address(self, **more: object) -> str:
        """The query string of this search, and where to go on."""
        return urlencode({**self.fields, **more})


def asked(parameters: Mapping[str, str], index: Index) -> Asked:
    """Read a search's parameters.

    Raises:
        AutointerpError: if one of them is not among what the viewer offers.
    """
    fields = {name: parameters[name].strip() for name in FIELDS if parameters.get(name, "").strip()}
    fields = {name: value[:LONGEST] for name, value in fields.items()}
    scores = [choice for choices in index.scores.values() for choice in choices]
    offered = {
        "coder": index.coders,
        "status": index.statuses,
        "score": scores,
        "density": index.densities,
    }
    filters = [_chosen(name, fields[name], offered[name]) for name in offered if name in fields]
    wanted = terms(fields.get("q", ""))
    place, direction = place_of(parameters)
    query = Query(wanted, filters, _order(fields.get("sort"), index), place, direction)
    return Asked(fields, query, unsearchable="q" in fields and not wanted)


def named(text: str, index: Index) -> LatentId | None:
    """The latent that a search names, if it is one's whole name and the run knows it."""
    try:
        latent = LatentId.parse(text.strip())
    except AutointerpError:
        return None
    return latent if index.latent(latent) is not None else None


def _chosen(field: str, value: str, offered: Sequence[Choice]) -> Choice:
    for choice in offered:
        if choice.value == value:
            return choice
    raise AutointerpError(f"{field} = {value!r} is not among what this run can be filtered by")


def _order(value: str | None, index: Index) -> Order:
    """The best by the first scorer come first, unless another order is asked for."""
    if value is None:
        return next((o for o in index.orders if o.scorer is not None), index.orders[0])
    for order in index.orders:
        if order.value == value:
            return order
    raise AutointerpError(f"sort = {value!r} is not among the orders of this run")


def place_of(parameters: Mapping[str, str]) -> tuple[int | None, Direction]:
    """Where a list goes on, and which way."""
    directions: tuple[Direction, ...] = ("after", "before")
    for direction in directions:
        value = parameters.get(direction, "")
        if value.isdecimal():
            return int(value[:18]), direction
    return None, "after"
