"""Replies of a size that a language model might give, for rehearsals: they say nothing."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autointerp.llm.client import Request, TokenLogprob

WORDS_OF_TEXT = 15  # that a string of a reply has; replies without a schema have four times as many
ITEMS = 3  # of a list whose length is free
ATTEMPTS = 200  # at a reply that the request's own check takes
_KNOWN = re.compile(r"\(there are: (.*?)\)")
_WORDS = ("tokens", "that", "name", "a", "loop", "variable", "before", "the", "colon", "in", "code")


def pretended(request: Request) -> str:
    """A reply that fits the request's schema and, if one is found, its check; always the same."""
    rng = random.Random(repr((request.messages[-1].content[-500:], request.repeat)))
    if request.schema is None:
        return _words(rng, 4 * WORDS_OF_TEXT)
    writer = _Writer(request.schema, rng)
    for _ in range(ATTEMPTS):
        value = writer.value(request.schema)
        if request.check is None:
            break
        try:
            request.check(value)
        except ValueError as refused:
            writer.learn(str(refused))
        else:
            break
    return json.dumps(value)


def echoed(text: str) -> tuple[TokenLogprob, ...]:
    """A text's own tokens, all equally likely: words with the blanks before them."""
    return tuple(TokenLogprob(token, -3.0) for token in re.findall(r"\s*\S+|\s+$", text))


@dataclass
class _Writer:
    """Draws values for one schema; the lists of strings hold names that a check knows."""

    root: Mapping[str, Any]
    rng: random.Random
    names: list[str] = field(default_factory=list)

    def learn(self, refusal: str) -> None:
        """Note the names that a check says there are."""
        if found := _KNOWN.search(refusal):
            self.names = [name for name in found[1].split(", ") if name]

    def value(self, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            return self.value(self._resolved(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self.value(self.rng.choice(schema[key]))
        return self._of_type(schema)

    def _resolved(self, ref: str) -> Mapping[str, Any]:
        node: Any = self.root
        for part in ref.removeprefix("#/").split("/"):
            node = node[part]
        found: Mapping[str, Any] = node
        return found

    def _of_type(self, schema: Mapping[str, Any]) -> Any:
        kind = schema.get("type", "object")
        if kind == "object":
            return {name: self.value(of) for name, of in schema.get("properties", {}).items()}
        if kind == "array":
            return self._array(schema)
        if kind == "string":
            return _words(self.rng, WORDS_OF_TEXT)[: schema.get("maxLength")]
        if kind in ("integer", "number"):
            low = schema.get("minimum", 0)
            drawn = self.rng.uniform(low, schema.get("maximum", low + 10))
            return round(drawn) if kind == "integer" else round(drawn, 2)
        return self.rng.random() < 0.5 if kind == "boolean" else None

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        least = schema.get("minItems", 0)
        most = schema.get("maxItems", max(least, ITEMS))
        count = least if least == most else self.rng.randint(least, max(least, min(most, ITEMS)))
        items = schema.get("items", {"type": "string"})
        if self.names and items.get("type") == "string":
            return self.rng.sample(self.names, min(count, len(self.names)))
        return [self.value(items) for _ in range(count)]


def _words(rng: random.Random, count: int, words: Sequence[str] = _WORDS) -> str:
    return " ".join(rng.choice(words) for _ in range(count))
