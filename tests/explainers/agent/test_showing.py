"""How excerpts are written for the agent's roles."""

from __future__ import annotations

import pytest

from autointerp.explainers.agent.roles import Excerpt
from autointerp.explainers.agent.showing import marked


@pytest.mark.parametrize(
    ("text", "tokens", "shown"),
    [
        ("see the cat", (" see", " the", " cat"), " see the «cat»9"),  # a blank put before it
        (
            "so 🎉 nice cat",
            ("so", " \ufffd", "\ufffd", " nice", " cat"),
            "so \ufffd\ufffd nice «cat»9",
        ),
        ("the cat", ("the", "cat"), "the «cat»9"),  # a tokenizer of words
        ("concat", ("con", "cat"), "con«cat»9"),
    ],
)
def test_blanks_are_shown_where_they_stand(text: str, tokens: tuple[str, ...], shown: str) -> None:
    levels = (*[0] * (len(tokens) - 1), 9)
    assert marked(Excerpt(text, tokens, levels)) == shown
