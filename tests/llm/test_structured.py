"""Reading replies that should fit a schema, and the schemas that servers are sent."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llm_values import value_for
from pydantic import BaseModel, Field

from autointerp.llm.client import Message, Request
from autointerp.llm.structured import ContentFault, read_reply, response_format
from autointerp.llm.text import clean


class Probe(BaseModel):
    text: str = Field(max_length=60)
    active: bool = True


class Plan(BaseModel):
    thought: str
    probes: list[Probe] = Field(min_length=1, max_length=3)
    choice: int | None = None


PLAN = Plan.model_json_schema()


def request(schema: dict[str, Any]) -> Request:
    return Request((Message("user", "x"),), schema=schema)


@given(
    st.integers(),
    st.sampled_from(["", "```json\n", "Sure, as in [1] and {this}: ", 'He said "{" \n']),
    st.sampled_from(["", "\n```\nDone.", " } ] trailing [", "\n\n\n   "]),
    st.sampled_from([None, 1]),
)
def test_a_fitting_value_is_found_in_prose_and_fences(
    seed: int, before: str, after: str, indent: int | None
) -> None:
    value = value_for(PLAN, random.Random(seed))
    text = before + json.dumps(value, indent=indent) + after
    assert read_reply(request(PLAN), text) == value


@given(st.text() | st.text(alphabet='{}[]",:0 '))
def test_any_text_is_a_value_that_fits_or_a_content_fault(text: str) -> None:
    with contextlib.suppress(ContentFault):
        Plan.model_validate(read_reply(request(PLAN), text))


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, '{"a":' * 50_000, "9" * 9000])
def test_endless_nesting_and_numbers_are_content_faults(text: str) -> None:
    with pytest.raises(ContentFault):
        read_reply(request(PLAN), text)


@pytest.mark.parametrize(("text", "value"), [(" 3", 3), ('"a"', "a"), ("null", None)])
def test_a_bare_value_is_read_too(text: str, value: Any) -> None:
    assert read_reply(request({"type": ["integer", "string", "null"]}), text) == value


def test_nan_is_not_json() -> None:
    with pytest.raises(ContentFault):
        read_reply(request({"type": "array"}), "[NaN]")


def test_escaped_surrogates_and_nul_are_made_readable() -> None:
    value = read_reply(request({"type": "array"}), r'["a\u0000\ud800", "\ud83d\ude00"]')
    assert value == ["a\u2400\ufffd", "\U0001f600"]


@given(st.text(st.characters(codec=None)))
def test_clean_text_is_encodable_and_settled(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert "\0" not in cleaned
    assert clean(cleaned) == cleaned


def test_the_schema_sent_is_strict_and_keeps_its_order() -> None:
    sent = response_format(PLAN)["json_schema"]
    assert sent["name"] == "Plan"
    assert sent["strict"]
    assert list(sent["schema"]["properties"]) == ["thought", "probes", "choice"]
    for node in (sent["schema"], sent["schema"]["$defs"]["Probe"]):
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])
    assert "default" not in json.dumps(sent)
    assert "default" in json.dumps(PLAN)  # ours is untouched


def test_a_mapping_cannot_be_strict_and_is_sent_as_it_is() -> None:
    schema = {"type": "object", "additionalProperties": {"type": "integer"}}
    sent = response_format(schema)["json_schema"]
    assert not sent["strict"]
    assert sent["schema"] == schema


@given(st.integers())
def test_the_servers_random_answers_fit_their_schema(seed: int) -> None:
    value = value_for(response_format(PLAN)["json_schema"]["schema"], random.Random(seed))
    Draft202012Validator(PLAN).validate(value)
