"""What latents are filtered by: one word a property, indexed beside the words of explanations.

A filter is then a part of the same full-text query as the words asked for, whatever the order of
the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10

BINS = 10  # of scores, each a tenth wide; scores below 0 are in the first
DECADES = 8  # of densities; the last is of 1e-8 and less, and of none
BARS = (9, 8, 7, 6, 5)  # tenths that scores are asked to reach, or not to
SPARSEST, DENSEST = 6, 1  # decades that densities are asked to reach, or not to


@dataclass(frozen=True)
class Choice:
    """One filter that the viewer offers: its value in a query, its name, and its words."""

    value: str
    name: str
    words: tuple[str, ...]  # a latent that passes has one of these

    @property
    def query(self) -> str:
        """The filter as an expression of FTS5."""
        return f"({' OR '.join(self.words)})"


def coder_word(number: int) -> str:
    """Of a coder, by its number in the index."""
    return f"xcoder{number}"


def status_word(number: int) -> str:
    """Of a status, by its number in the index."""
    return f"xstatus{number}"


def score_word(scorer: int, value: float | None) -> str:
    """Of a scorer's headline; what was not scored has a word of its own."""
    if value is None:
        return f"xscorer{scorer}none"
    return _bin_word(scorer, min(max(floor(value * BINS + 1e-9), 0), BINS - 1))


def _bin_word(scorer: int, tenth: int) -> str:
    return f"xscorer{scorer}bin{tenth}"


def density_word(density: float) -> str:
    """Of the decade that a density lies in."""
    exponent = -floor(log10(density) + 1e-9) if density > 0 else DECADES
    return _decade_word(min(max(exponent, 1), DECADES))


def _decade_word(decade: int) -> str:
    return f"xdecade{decade}"


def scored(scorer: int) -> Choice:
    """Those that a scorer has a score of."""
    return Choice("", "", tuple(_bin_word(scorer, tenth) for tenth in range(BINS)))


def score_choices(scorer: int, name: str) -> list[Choice]:
    """At least so much by a scorer, less than so much, or no score."""
    words = [_bin_word(scorer, tenth) for tenth in range(BINS)]
    least = [
        Choice(f"{name}>={b / BINS:g}", f"at least {b / BINS:g}", tuple(words[b:])) for b in BARS
    ]
    less = [Choice(f"{name}<{b / BINS:g}", f"below {b / BINS:g}", tuple(words[:b])) for b in BARS]
    return [*least, *less, Choice(f"{name}=none", "not scored", (score_word(scorer, None),))]


def density_choices() -> list[Choice]:
    """At least so dense, or sparser. Decade d is of densities from 10^−d up to ten times that."""
    words = {decade: _decade_word(decade) for decade in range(1, DECADES + 1)}
    found = []
    for d in range(DENSEST, SPARSEST):
        at_least = tuple(words[i] for i in words if i <= d)
        found.append(Choice(f">={10.0**-d:g}", f"at least {_share(d)}", at_least))
    for d in range(DENSEST, SPARSEST):
        below = tuple(words[i] for i in words if i > d)
        found.append(Choice(f"<{10.0**-d:g}", f"below {_share(d)}", below))
    return found


def _share(decade: int) -> str:
    return f"{100 * 10.0**-decade:g} % of tokens"
