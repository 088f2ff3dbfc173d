"""Replies held to a JSON schema: by the server, or by the prompt and a patient reader."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator

from autointerp.llm.client import Request
from autointerp.llm.text import clean_value

MOST_STARTS = 512  # how many brackets of a reply are tried as the beginning of its JSON value
MOST_SAID = 600  # characters of a complaint shown to the model
_PLAIN_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class ContentFault(Exception):
    """A reply came, but not the one asked for; the words are shown to the model."""


@dataclass(frozen=True)
class _Compiled:
    response_format: Mapping[str, Any]
    validator: Draft202012Validator


def response_format(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request field that makes a server keep to ``schema``, strictly where it can be strict."""
    return _compiled(json.dumps(schema)).response_format


def read_reply(request: Request, text: str) -> Any:
    """The JSON value in ``text`` that fits the request's schema and check; None without a schema.

    Fences and prose around the value are passed over.

    Raises:
        ContentFault: if there is no such value.
    """
    if request.schema is None:
        return None
    validator = _compiled(json.dumps(request.schema)).validator
    complaint: str | None = None
    for value in _values(text):
        problem = _problem(request, validator, value)
        if problem is None:
            return value
        complaint = complaint or problem
    raise ContentFault(complaint or "there is no JSON value in the reply")


def _problem(request: Request, validator: Draft202012Validator, value: Any) -> str | None:
    error = next(iter(validator.iter_errors(value)), None)
    if error is not None:
        return f"{error.json_path}: {error.message}"[:MOST_SAID]
    if request.check is None:
        return None
    try:
        request.check(value)
    except ValueError as refused:
        return str(refused)[:MOST_SAID]
    return None


def _values(text: str) -> Iterator[Any]:
    """The JSON values that begin at a bracket of ``text``, and ``text`` itself if it is one."""
    decoder = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)
    starts = [m.start() for m in re.finditer(r"[\[{]", text)]
    for start in dict.fromkeys([_first(text), *starts[:MOST_STARTS]]):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        yield clean_value(value)


def _first(text: str) -> int:
    """Where a bare number, string or word would begin."""
    return len(text) - len(text.lstrip())


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


@lru_cache(maxsize=256)
def _compiled(text: str) -> _Compiled:
    schema = json.loads(text)
    name = _PLAIN_NAME.sub("_", str(schema.get("title") or "reply"))[:64]
    sent = copy.deepcopy(schema)
    strict = _make_strict(sent)
    return _Compiled(
        {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": strict, "schema": sent if strict else schema},
        },
        Draft202012Validator(schema),
    )


def _make_strict(node: Any) -> bool:
    """Close every object of a schema, in place; False if one of them is a mapping by design.

    OpenAI's strict mode wants all properties required, no others, and no defaults.
    """
    if isinstance(node, list):
        return _make_all_strict(node)
    if not isinstance(node, dict):
        return True
    node.pop("default", None)
    strict = True
    if node.get("type") == "object":
        strict = "properties" in node and node.get("additionalProperties", False) is False
        node["additionalProperties"] = False
        node["required"] = list(node.get("properties", {}))
    for key, value in node.items():
        if key in ("properties", "$defs"):
            strict &= _make_all_strict(value.values())
        elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems"):
            strict &= _make_strict(value)
    return strict


def _make_all_strict(nodes: Iterable[Any]) -> bool:
    strict = True
    for node in nodes:  # every one is closed, also after one that cannot be
        strict &= _make_strict(node)
    return strict
