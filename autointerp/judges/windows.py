"""How windows are written into prompts: plain text as JSON strings, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from autointerp.latents import Example


def separator(vocabulary: Sequence[str]) -> str:
    """What joins tokens to text: nothing where tokens bring their own blanks, else a blank."""
    return "" if any(token.startswith(" ") for token in vocabulary) else " "


def quoted(text: str) -> str:
    """A JSON string with letters of every script as themselves: always one line."""
    return json.dumps(text, ensure_ascii=False)


def shown(examples: Iterable[Example]) -> list[dict[str, str]]:
    """The ``text`` of each window and the up to 32 tokens ``before`` it, quoted."""
    rows = []
    for example in examples:
        between = separator(example.vocabulary)
        before, text = between.join(example.left_context), between.join(example.tokens)
        rows.append({"before": quoted(before), "text": quoted(text)})
    return rows
