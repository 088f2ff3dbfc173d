"""What is wrong with a configuration, in one line that names the nearest known word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError


def complaint(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic, in one line of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, first["loc"][:-1])
        return f"unknown key {where!r}{hint(str(first['loc'][-1]), known)}{known_list(known)}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys known at a path of the model; through mappings of sections too."""
    current: Any = model
    for part in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:
            current = next((a for a in _arguments(current) if hasattr(a, "model_fields")), None)
    fields = getattr(current, "model_fields", None)
    return list(fields) if fields is not None else []


def _arguments(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def known_list(known: Sequence[str]) -> str:
    return f" (known: {', '.join(known)})" if known else ""


def noun(value: Any) -> str:
    return "list" if isinstance(value, list) else type(value).__name__
