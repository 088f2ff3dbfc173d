"""What is sent: a request as the JSON body of a completion, and what it may cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from autointerp.llm.client import Message, Request, Usage
from autointerp.llm.pricing import dollars, prices_of
from autointerp.llm.servers import is_openai
from autointerp.llm.structured import response_format
from autointerp.llm.templates import Templates
from autointerp.llm.text import clean
from autointerp.sections import LLMSection

# The journal's key is the body that is sent, its endpoint and `repeat`: every field of a request
# goes into the body but these, which do not shape the answer.
NOT_IN_KEY = frozenset({"purpose", "check"})
MOST_REPEATED = 4000  # characters of a bad reply that the repair round shows
BYTES_PER_TOKEN = 3  # for what a request may cost at most; English has four or more

V = TypeVar("V")


class Bodies:
    """Writes the bodies for one model. ``prices`` are None if nobody knows them."""

    def __init__(self, section: LLMSection, templates: Templates) -> None:
        self._section = section
        self._templates = templates
        self.prices = prices_of(section)

    def body(self, request: Request, constrained: bool) -> bytes:
        """The JSON that is sent, and hashed; ``constrained`` if the server holds to schemas."""
        section = self._section
        if request.echo:
            (text,) = request.messages
            return _dumped(_echo(section.model, text.content) | section.extra_body)
        limit = "max_completion_tokens" if is_openai(section) else "max_tokens"
        body: dict[str, Any] = {
            "model": section.model,
            "messages": [{"role": m.role, "content": clean(m.content)} for m in request.messages],
            "temperature": _either(section.temperature, request.temperature),
            limit: _either(section.max_tokens, request.max_tokens),
            "seed": request.seed,
        }
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.schema is not None and constrained:
            body["response_format"] = response_format(request.schema)
        return _dumped(body | section.extra_body)

    def with_schema_in_prompt(self, request: Request) -> Request:
        """The same request, its schema written into the system's turn."""
        schema = json.dumps(request.schema, indent=1, ensure_ascii=False)
        (wish,) = self._templates.render("llm/schema", schema=schema)
        head, *rest = request.messages
        if head.role != "system":
            return replace(request, messages=(wish, head, *rest))
        merged = Message("system", f"{head.content}\n\n{wish.content}")
        return replace(request, messages=(merged, *rest))

    def repair(self, request: Request, said: str, complaint: str) -> Request:
        """The request again, with the reply it got and what is wrong with that."""
        shown = said[:MOST_REPEATED]
        turns = self._templates.render("llm/repair", said=shown, complaint=complaint)
        return replace(request, messages=(*request.messages, *turns))

    def estimate(self, body: bytes, request: Request) -> Usage:
        """What one attempt may cost at most, nearly."""
        usage = Usage(
            prompt_tokens=1 + len(body) // BYTES_PER_TOKEN,
            completion_tokens=_either(self._section.max_tokens, request.max_tokens),
        )
        return replace(usage, dollars=dollars(self.prices, usage))


def _echo(model: str, text: str) -> dict[str, Any]:
    sent = {"model": model, "prompt": clean(text), "max_tokens": 0, "temperature": 0.0}
    return {**sent, "echo": True, "logprobs": 1}


def _dumped(body: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in body.items() if value is not None}
    return json.dumps(kept).encode()  # in order: models fill a schema's fields as they come


def _either(configured: V | None, asked: V) -> V:
    return asked if configured is None else configured
