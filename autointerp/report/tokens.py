"""Tokens coloured by activation, and any text made fit for a page: what pages of HTML share.

``templates/tokens.html.j2`` has the macros that show what is made here, ``templates/style.css``
the colours: classes, never inline styles, so that a page may forbid those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from autointerp.latents.scales import LEVELS

TEMPLATES = Path(__file__).parent / "templates"
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # for UTF-8 or HTML
_UNSEEN = re.compile("[\t\n\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SIGNS = {"\n": "↵", "\t": "→\t"}


@dataclass(frozen=True)
class ShownToken:
    """One token: its text as shown, its level 0 (does not fire) to 10, its activation in words."""

    text: str
    level: int
    activation: str


@dataclass(frozen=True)
class Line:
    """A text's tokens as shown; ``peak`` is the place of the largest activation, if any."""

    tokens: tuple[ShownToken, ...]
    maximum: float
    peak: int | None

    @property
    def spoken(self) -> str:
        """The line's activations in words, for those who do not see the colours."""
        if self.peak is None:
            return "does not fire"
        most = self.tokens[self.peak]
        return f"at most {most.activation} on “{most.text.strip()}”"


def line(tokens: Sequence[str], activations: Sequence[float], most: float | None = None) -> Line:
    """Tokens [n] with their activations [n], of which ``most`` (by default the largest) and all
    above it get the strongest colour."""
    largest = max(activations, default=0.0)
    shown = tuple(
        ShownToken(visible(token), level(value, most or largest), f"{value:.4g}")
        for token, value in zip(tokens, activations, strict=True)
    )
    peak = list(activations).index(largest) if largest > 0 else None
    return Line(shown, largest, peak)


def level(activation: float, most: float) -> int:
    """0 where it does not fire, else 1 to 10, of which 10 is ``most`` or more."""
    if activation <= 0 or most <= 0:
        return 0
    return min(LEVELS, max(1, ceil(LEVELS * activation / most)))


def visible(token: str) -> str:
    """A token with every character that shows nothing, or moves others, as a sign."""
    return _UNSEEN.sub(lambda found: _SIGNS.get(found[0]) or _code(found[0]), legible(token)) or "∅"


def legible(text: str) -> str:
    """A text that UTF-8 and HTML can hold: line ends and tabs stay; other control characters,
    which pages would drop, and lone surrogates become signs."""
    return _UNFIT.sub(lambda found: _picture(found[0]), text)


def _picture(character: str) -> str:
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    return "␡" if character == "\x7f" else _code(character)


def _code(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"


def environment(*folders: Path) -> Environment:
    """Templates of these folders, then of this package: every text put into them is made
    legible and escaped, and a missing one is an error."""
    return Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: Any) -> Any:
    return legible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
