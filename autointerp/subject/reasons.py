"""What other libraries' errors say, short enough for one of ours."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its class where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
