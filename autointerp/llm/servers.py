"""Who answers: OpenAI, a server on this machine, or a program that the run starts itself."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from autointerp.sections import LLMSection


def address(section: LLMSection) -> str:
    """Who answers, as the journal's keys have it: the same, whether asked in waves or at once.

    A server that a run starts itself gets a new port each time: its address is not in.
    """
    kind = "vllm" if runs_here(section) else "openai"
    return f"{kind} {section.base_url or 'default'}"


def is_openai(section: LLMSection) -> bool:
    """Whether the endpoint is OpenAI's own."""
    if section.base_url is None:
        return not runs_here(section)
    return urlsplit(section.base_url).hostname == "api.openai.com"


def runs_here(section: LLMSection) -> bool:
    """Whether the model is the user's own, so that nobody is paid for its answers."""
    return section.backend == "vllm" or bool(section.waves and section.waves.command)


def is_loopback(url: str | None) -> bool:
    """Whether ``url`` is on this machine."""
    host = urlsplit(url or "").hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, not an address
        return False
