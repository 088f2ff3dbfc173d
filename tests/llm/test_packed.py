"""Conversations packed while they wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.client import Message
from autointerp.llm.wave_client import Packed

TEXTS = st.text(st.characters())  # surrogates too


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_the_turns_are_the_same(texts: list[str]) -> None:
    turns = tuple(Message("user" if i % 2 else "system", text) for i, text in enumerate(texts))
    packed = Packed(turns)
    assert tuple(packed) == turns
    assert len(packed) == len(turns)
    assert (packed[-1], packed[:1]) == (turns[-1], turns[:1])
    assert all(shown is turn for shown, turn in zip(packed, turns[:-1], strict=False))
