"""What the index gives: latents as rows of a list, pages of them, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from autointerp.latents import LatentId
from autointerp.report.viewer.facets import Choice, scored
from autointerp.report.viewer.search import Term, match
from autointerp.report.viewer.stream import Headline

PAGE = 50  # latents
COUNTED = 10_000  # matches; of more it is only said that they are more

Direction = Literal["after", "before"]
T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """One order of latents; ``reverse`` is the same from its other end."""

    number: int
    value: str
    name: str
    scorer: int | None
    reverse: bool = False


@dataclass(frozen=True)
class Scorer:
    """One scorer of the run: its headline's name, and what guessing has."""

    number: int
    name: str
    metric: str
    chance: float


@dataclass(frozen=True)
class Listed:
    """One latent as a row of a list."""

    id: int
    latent: LatentId
    hook: str | None
    status: str
    explainer: str
    text: str
    effect: str
    reason: str | None
    confidence: float | None
    density: float | None
    maximum: float | None
    headlines: Mapping[str, Headline]


@dataclass(frozen=True)
class Query:
    """What to list: terms to be found, filters to be passed, an order, and where to go on."""

    terms: Sequence[Term]
    filters: Sequence[Choice]
    order: Order
    place: int | None = None
    direction: Direction = "after"

    @property
    def match(self) -> str:
        """In the language of FTS5. The worst scores come first only of what has a score."""
        filters = list(self.filters)
        if self.order.reverse and self.order.scorer is not None:
            filters.append(scored(self.order.scorer))
        return match(self.terms, filters)


@dataclass(frozen=True)
class Page:
    """Some of the latents that match, in order. ``before`` and ``after`` are the places to go on
    from, None at either end; ``count`` is of all that match, COUNTED + 1 if there are more."""

    rows: list[Listed]
    count: int
    before: int | None
    after: int | None


def orders_of(stored: Sequence[Order]) -> list[Order]:
    """Every stored order, and those that can be read from their other end too."""
    found = []
    for order in stored:
        if order.value == "latent":
            found.append(order)
            continue
        most, least = ("densest", "sparsest") if order.scorer is None else ("best", "worst")
        of = "" if order.scorer is None else f" by {order.name}"
        found += [
            Order(order.number, order.value, f"{most}{of} first", order.scorer),
            Order(order.number, f"-{order.value}", f"{least}{of} first", order.scorer, True),
        ]
    return found


def turned(found: list[T], place: int | None, direction: Direction) -> tuple[list[T], bool, bool]:
    """A page in the order of its list, and whether there is anything before and after it, of what
    was found from a place in a direction: one more than a page, if there is more."""
    more, page = len(found) > PAGE, found[:PAGE]
    if direction == "before":
        return page[::-1], more, True
    return page, place is not None, more
