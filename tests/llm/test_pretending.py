"""Replies that stand for a model's in a rehearsal: of the right form, and always the same."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from autointerp.explainers.agent.replies import DesignReply, ProposeReply, RevisionsReply
from autointerp.llm.client import Message, Request
from autointerp.llm.pretending import echoed, pretended


def request(reply: type[BaseModel], question: str = "?", **context: Any) -> Request:
    return Request(
        (Message("user", question),),
        schema=reply.model_json_schema(),
        check=lambda value: reply.model_validate(value, context=context),
    )


class Labels(BaseModel):
    labels: list[Literal[0, 1]] = Field(min_length=7, max_length=7)
    sure: float = Field(ge=0, le=1)
    rank: int | None
    note: str = Field(max_length=20)


@given(st.text(max_size=20))
def test_a_reply_fits_its_schema_and_comes_again_the_same(question: str) -> None:
    asked = request(Labels, question)
    reply = pretended(asked)
    assert asked.schema is not None
    Draft202012Validator(dict(asked.schema)).validate(json.loads(reply))
    assert pretended(asked) == reply


@pytest.mark.parametrize("reply", [ProposeReply, DesignReply, RevisionsReply])
def test_the_agents_roles_get_replies_that_their_checks_take(reply: type[BaseModel]) -> None:
    context = {"hypotheses": ["h1", "h2"]}
    for number in range(5):
        value = json.loads(pretended(request(reply, str(number), **context)))
        reply.model_validate(value, context=context)


def test_predictions_name_the_hypotheses_there_are() -> None:
    context = {"hypotheses": ["h1", "h2"]}
    replies = [pretended(request(DesignReply, str(n), **context)) for n in range(8)]
    assert any('"h1"' in reply or '"h2"' in reply for reply in replies)


def test_prose_is_longer_than_a_field() -> None:
    said = pretended(Request((Message("user", "Write."),)))
    assert len(said.split()) == 60


def test_an_echo_has_every_character() -> None:
    text = " for i\n in range(3): "
    assert "".join(token.token for token in echoed(text)) == text
