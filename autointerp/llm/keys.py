"""API keys come from the environment, and from nowhere else."""

from __future__ import annotations

import os

from autointerp.latents import AutointerpError
from autointerp.llm.servers import is_loopback, runs_here
from autointerp.sections import LLMSection

NO_KEY = "none-needed-here"


def read_api_key(section: LLMSection, where: str) -> str:
    """The key from the environment; a placeholder for a server on this machine that needs none.

    Raises:
        AutointerpError: if the variable is not set.
    """
    key = os.environ.get(section.api_key_env, "").strip()
    if key:
        return key
    if runs_here(section) or is_loopback(section.base_url):
        return NO_KEY
    raise AutointerpError(
        f"{where}: the environment variable {section.api_key_env} is not set; export the API key"
        " in it, or name another variable as api_key_env"
    )
