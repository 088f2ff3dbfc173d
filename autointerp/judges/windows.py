"""How windows are written into prompts: plain text as JSON strings, one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence

from autointerp.latents import Example


def separator(vocabulary: Sequence[str]) -> str:
    """What joins tokens to text: nothing where tokens bring their own blanks, else a blank."""
    return "" if any(token.startswith(" ") for token in vocabulary) else " "


def quoted(text: str) -> str:
    """A JSON string with letters of every script as themselves: always one line."""
    return json.dumps(text, ensure_ascii=False)


def shown(examples: Sequence[Example]) -> list[dict[str, str]]:
    """The ``text`` of each window and the up to 32 tokens ``before`` it, quoted."""
    between = separator(examples[0].vocabulary) if examples else ""
    return [
        {
            "before": quoted(between.join(example.left_context)),
            "text": quoted(between.join(example.tokens)),
        }
        for example in examples
    ]
