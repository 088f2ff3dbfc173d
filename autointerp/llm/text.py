"""Text that every server and every file can hold."""

from __future__ import annotations

from typing import Any

NUL_SIGN = "\u2400"


def clean(text: str) -> str:
    """Replace NUL by its sign and lone surrogates by U+FFFD; halves that belong together join."""
    if "\0" in text:
        text = text.replace("\0", NUL_SIGN)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_value(value: Any) -> Any:
    """``clean`` for every string of a JSON value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_value(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean_value(item) for key, item in value.items()}
    return value
