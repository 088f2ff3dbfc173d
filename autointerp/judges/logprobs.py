"""Log probabilities of a reply's tokens: asking for them where an endpoint offers them, and what
they say of the labels and levels that the reply lists."""

from __future__ import annotations

import logging
import math
import re
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import TypeVar

from autointerp.llm.client import LLMFailure, Reply, TokenLogprob

TOP = 5  # tokens asked for in each place: 0 and 1 are nearly always among them
TOP_LEVELS = 10  # of levels: every digit may be among them
_LIST = r'"{}"\s*:\s*\[([^\]]*)\]'
_AROUND = ' \n\t[],:{}"'  # what tokenizers join a digit with
_log = logging.getLogger(__name__)
T = TypeVar("T")


class Logprobs:
    """Asks for the ``top`` likeliest tokens in each place until an endpoint says it has none."""

    def __init__(self, wanted: bool, top: int) -> None:
        self._top = top if wanted else 0

    async def ask(self, request: Callable[[int], Awaitable[T]]) -> T:
        """The answer to ``request``, which is given how many tokens to ask for.

        Raises:
            LLMFailure: as ``request`` does, for anything but a refusal of log probabilities.
        """
        if self._top:
            try:
                return await request(self._top)
            except LLMFailure as failure:
                # After an answer it is the model that failed, and the words may be its own.
                if failure.answers or "logprobs" not in failure.reason:
                    raise
                self._remember_none(failure.reason)
        return await request(0)

    def _remember_none(self, reason: str) -> None:
        if self._top:
            self._top = 0
            _log.warning("%s; from now on answers are asked for without probabilities", reason)


def yes_probabilities(reply: Reply, labels: Sequence[int]) -> list[float | None]:
    """P(1) of every label in ``{"labels": [1, 0, …]}``; None where it cannot be read.

    At the token that holds a label's digit, the probabilities of all tokens that stand for 1 are
    taken over those that stand for 1 or 0. What a grammar would have ruled out there drops out.
    """
    found = _tokens(reply, "labels", labels)
    return [_yes(token, label) for token, label in zip(found, labels, strict=True)]


def expected_levels(reply: Reply, levels: Sequence[int]) -> list[float]:
    """The mean of every level in ``{"levels": [0, 7, …]}`` over the probabilities of the digits in
    its place; the level itself where there are none."""
    found = _tokens(reply, "levels", levels)
    return [_expected(token, level) for token, level in zip(found, levels, strict=True)]


def _tokens(reply: Reply, name: str, digits: Sequence[int]) -> Sequence[TokenLogprob | None]:
    """The token that holds each digit of the reply's list ``name``."""
    if not reply.logprobs:
        return [None] * len(digits)
    tokens = reply.logprobs
    text = "".join(token.token for token in tokens)
    places = _places(text, name, digits)
    ends = list(accumulate(len(token.token) for token in tokens))
    if not places:
        return [None] * len(digits)
    return [tokens[bisect_right(ends, place)] for place in places]


def _places(text: str, name: str, digits: Sequence[int]) -> list[int]:
    """Where the digits stand in the last list of this name that holds them."""
    for match in reversed(list(re.finditer(_LIST.format(name), text))):
        found = list(re.finditer(r"\d+", match[1]))
        if [digit[0] for digit in found] == [str(digit) for digit in digits]:
            return [match.start(1) + digit.start() for digit in found]
    return []


def _mass(token: TokenLogprob | None, chosen: int, digits: str) -> dict[str, float]:
    """The probability of each digit in the token's place; empty if it holds more than one."""
    if token is None or token.token.strip(_AROUND) != str(chosen):
        return {}
    mass = dict.fromkeys(digits, 0.0)
    for text, logprob in {**dict(token.top), token.token: token.logprob}.items():
        digit = text.strip(_AROUND)
        if digit in mass:
            mass[digit] += math.exp(min(logprob, 0.0))
    return mass if sum(mass.values()) > 0 else {}


def _yes(token: TokenLogprob | None, label: int) -> float | None:
    mass = _mass(token, label, "01")
    return mass["1"] / (mass["0"] + mass["1"]) if mass else None


def _expected(token: TokenLogprob | None, level: int) -> float:
    mass = _mass(token, level, "0123456789")
    if not mass:
        return float(level)
    return sum(int(digit) * share for digit, share in mass.items()) / sum(mass.values())
