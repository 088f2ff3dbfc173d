"""The probability of yes, read from the log probabilities of a reply's tokens."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from autointerp.llm.client import Reply, TokenLogprob

TOP = 5  # tokens asked for in each place: 0 and 1 are nearly always among them
_LABELS = re.compile(r'"labels"\s*:\s*\[([^\]]*)\]')
_AROUND = ' \n\t[],:{}"'  # what tokenizers join a digit with


def yes_probabilities(reply: Reply, labels: Sequence[int]) -> list[float | None]:
    """P(1) of every label in ``{"labels": [1, 0, …]}``; None where it cannot be read.

    At the token that holds a label's digit, the probabilities of all tokens that stand for 1 are
    taken over those that stand for 1 or 0. What a grammar would have ruled out there drops out.
    """
    tokens = reply.logprobs or ()
    text = "".join(token.token for token in tokens)
    places = _places(text, labels)
    ends = list(accumulate(len(token.token) for token in tokens))
    found = [tokens[bisect_right(ends, place)] for place in places]
    if not found:
        return [None] * len(labels)
    return [_yes(token, label) for token, label in zip(found, labels, strict=True)]


def _places(text: str, labels: Sequence[int]) -> list[int]:
    """Where the digits stand in the last list of these labels."""
    for match in reversed(list(_LABELS.finditer(text))):
        digits = list(re.finditer(r"\d+", match[1]))
        if [digit[0] for digit in digits] == [str(label) for label in labels]:
            return [match.start(1) + digit.start() for digit in digits]
    return []


def _yes(token: TokenLogprob, label: int) -> float | None:
    if token.token.strip(_AROUND) != str(label):
        return None  # a token of several labels
    mass = {"0": 0.0, "1": 0.0}
    for text, logprob in {**dict(token.top), token.token: token.logprob}.items():
        digit = text.strip(_AROUND)
        if digit in mass:
            mass[digit] += math.exp(min(logprob, 0.0))
    total = mass["0"] + mass["1"]
    return mass["1"] / total if total > 0 else None
