"""A scripted language model as judge: answers detection and fuzzing from the prompt alone.

It reads the explanation, in the planted world's English or as a pattern, and the texts that the
prompt shows, and says where the one holds in the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from autointerp.latents import AutointerpError
from autointerp.patterns import Clause, Condition, Pattern, Token, matches, parse

EXPLANATION = re.compile(r"<explanation>\n(.*?)\n</explanation>", re.S)
_TEXT = re.compile(r'^\d+\. (\[".*"\]|".*")$', re.M)
_WORDS = re.compile(
    r"the words? (?P<words>[^ ,]+(?:, [^ ,]+)*)"
    r"(?:,? (?P<kind>right after|but not right after|when) the word (?P<other>[^ ]+)"
    r"(?: occurred earlier in the text)?)?"
)


def is_judging(body: dict[str, Any]) -> bool:
    return EXPLANATION.search(body["messages"][-1]["content"]) is not None


def judged(body: dict[str, Any]) -> dict[str, list[int]]:
    """The reply to a judge's prompt: of marked tokens where there are marks, else of the text."""
    question = body["messages"][-1]["content"]
    found = EXPLANATION.search(question)
    assert found is not None
    pattern = understood(found.group(1))
    marks = "«" in body["messages"][0]["content"]
    return {"labels": [int(_fits(pattern, line, marks)) for line in _TEXT.findall(question)]}


def understood(text: str) -> Pattern:
    """What an explanation says, as a pattern; an empty one says nothing."""
    words = _WORDS.fullmatch(text)
    if words is None:
        try:
            return parse(text)
        except AutointerpError:
            return parse("nothing")
    match = tuple(Token(word) for word in words["words"].split(", "))
    other = (Token(words["other"] or ""),)
    if words["kind"] == "right after":
        return Pattern((Clause(match, (Condition("after", other),)),))
    if words["kind"] == "when":
        return Pattern((Clause(match, (Condition("somewhere after", other),)),))
    exceptions = (Condition("after", other),) if words["kind"] else ()
    return Pattern((Clause(match, exceptions=exceptions),))


def _fits(pattern: Pattern, line: str, marks: bool) -> bool:
    shown = json.loads(_unescaped_marks(line))
    before, text = ("", shown) if isinstance(shown, str) else shown
    tokens, marked = _read(text)
    held = matches(pattern, tokens, before.split())
    if not marks:
        return any(held)
    hits = sum(hit and mark for hit, mark in zip(held, marked, strict=True))
    return 2 * hits > sum(marked)


def _unescaped_marks(line: str) -> str:
    """The line with other signs for marks, so that they differ from those of the text itself."""
    return line.replace("«", "\\u0001").replace("»", "\\u0002")


def _read(text: str) -> tuple[Sequence[str], Sequence[bool]]:
    """Words, and which of them are marked."""
    tokens: list[str] = []
    marked: list[bool] = []
    for place, part in enumerate(re.split("[\x01\x02]", text)):
        words = part.split()
        tokens += words
        marked += [bool(place % 2)] * len(words)
    return tokens, marked
