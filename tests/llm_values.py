"""Random JSON values that fit a schema, and random prose."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = ("the", "token", "fires", "on", "plural", "nouns", "before", "a", "verb", "and", "quotes")
MOST_ITEMS = 4


def prose(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def value_for(
    schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any] | None = None
) -> Any:
    """A random value that fits ``schema``; ``root`` holds the definitions it refers to."""
    root = root or schema
    if "$ref" in schema:
        return value_for(_resolve(schema["$ref"], root), rng, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return value_for(rng.choice(schema[key]), rng, root)
    if "allOf" in schema:
        return value_for(schema["allOf"][0], rng, root)
    kind = schema.get("type", "object")
    return _of_type(rng.choice(kind) if isinstance(kind, list) else kind, schema, rng, root)


def _resolve(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for part in ref.removeprefix("#/").split("/"):
        node = node[part]
    found: Mapping[str, Any] = node
    return found


def _of_type(
    kind: str, schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any]
) -> Any:
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: value_for(inner, rng, root) for name, inner in properties.items()}
    if kind == "array":
        return _array(schema, rng, root)
    if kind == "string":
        return _string(schema, rng)
    if kind == "integer":
        low, high = _bounds(schema, 0, 10)
        return rng.randint(int(low), int(high))
    if kind == "number":
        return rng.uniform(*_bounds(schema, 0.0, 1.0))
    return rng.random() < 0.5 if kind == "boolean" else None


def _array(schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any]) -> list[Any]:
    fixed: Sequence[Any] = schema.get("prefixItems", [])
    least = schema.get("minItems", 1)
    count = rng.randint(least, schema.get("maxItems", max(least, MOST_ITEMS)))
    items = schema.get("items", {"type": "string"})
    more = range(len(fixed), count) if items is not False else []
    return [value_for(s, rng, root) for s in fixed] + [value_for(items, rng, root) for _ in more]


def _string(schema: Mapping[str, Any], rng: random.Random) -> str:
    text = prose(rng, rng.randint(2, 8))
    short = schema.get("minLength", 0) - len(text)
    return (text + "x" * max(0, short))[: schema.get("maxLength")]


def _bounds(schema: Mapping[str, Any], low: float, high: float) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", low))
    return low, max(low, schema.get("maximum", schema.get("exclusiveMaximum", max(low, high))))


def random_answer(body: Mapping[str, Any], rng: random.Random) -> Any:
    """A value for the schema that the request names, or prose."""
    wanted = body.get("response_format", {}).get("json_schema")
    return prose(rng) if wanted is None else json.dumps(value_for(wanted["schema"], rng))


def wrong_length(value: Any) -> Any:
    """The value with its lists doubled and more, or without its first key if it has no list."""
    if isinstance(value, list):
        return [*value, *value, None]
    if not isinstance(value, dict):
        return []
    if any(isinstance(inner, list) for inner in value.values()):
        return {k: wrong_length(v) if isinstance(v, list) else v for k, v in value.items()}
    return dict(list(value.items())[1:])


def logprobs(content: str, top: int, key: str) -> list[dict[str, Any]]:
    """One entry a word, its probability drawn from the request's hash."""
    rng = random.Random(key)
    entries = []
    for token in content.split(" "):
        logprob = -rng.random()
        others = [{"token": f"{token}{n}", "logprob": logprob - n} for n in range(top)]
        entries.append({"token": token, "logprob": logprob, "top_logprobs": others})
    return entries


NEW, AGAIN = -5.0, -1.0  # log probability of a word that did not, or did, stand in the text before


def echoed(text: str) -> dict[str, Any]:
    """What completions tell of a text's own tokens: words with the blanks before them."""
    tokens = re.findall(r"\s*\S+|\s+$", text)
    words = [token.strip() for token in tokens]
    seen = [AGAIN if word in words[:place] else NEW for place, word in enumerate(words)]
    return {"tokens": tokens, "token_logprobs": [None, *seen[1:]]}
