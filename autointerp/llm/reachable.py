"""Whether somebody listens where a configuration names a server: looked at before any work."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from autointerp.latents import AutointerpError
from autointerp.llm.journal import default_path
from autointerp.llm.journal_file import open_file
from autointerp.sections import LLMSection

SECONDS = 5.0  # that a server may take to accept a connection
_PORTS = {"http": 80, "https": 443}


def check_reachable(
    sections: Mapping[str, LLMSection], names: Iterable[str], journal: Path | None
) -> None:
    """Connect once to the server of every named section that gives a ``base_url``.

    A server that is away is no trouble where the journal has replies of its model: they may be all
    that is needed.

    Raises:
        AutointerpError: if nobody listens there, and the journal has no reply of that model.
    """
    for name in names:
        section = sections[name]
        if section.base_url is None or (reason := _refused(section.base_url)) is None:
            continue
        if not _is_journaled(section.model, journal or default_path()):
            raise AutointerpError(
                f"llms.{name}: nobody answers for {section.model} at {section.base_url} ({reason});"
                f" start that server, or correct llms.{name}.base_url"
            )


def _refused(url: str) -> str | None:
    """Why no connection can be made; None if one can, or if a proxy makes them."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 443)
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return None
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _is_journaled(model: str, journal: Path) -> bool:
    if not journal.exists():
        return False
    with closing(open_file(journal)) as file:
        found = file.execute("SELECT 1 FROM replies WHERE model = ? LIMIT 1", (model,))
        return found.fetchone() is not None
