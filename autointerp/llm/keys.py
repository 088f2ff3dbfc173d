"""API keys come from the environment, and from nowhere else."""

from __future__ import annotations

import os

from autointerp.latents import AutointerpError
from autointerp.llm.servers import is_loopback, runs_here
from autointerp.sections import LLMSection

NO_KEY = "none-needed-here"


def has_key(section: LLMSection) -> bool:
    """Whether a key is in the environment, or none is needed."""
    given = os.environ.get(section.api_key_env, "").strip()
    return bool(given) or runs_here(section) or is_loopback(section.base_url)


def read_api_key(section: LLMSection, where: str) -> str:
    """The key from the environment; a placeholder for a server on this machine that needs none.

    Raises:
        AutointerpError: if the variable is not set.
    """
    if has_key(section):
        return os.environ.get(section.api_key_env, "").strip() or NO_KEY
    raise AutointerpError(
        f"{where}: the environment variable {section.api_key_env} is not set; export the API key"
        " in it, or name another variable as api_key_env"
    )
