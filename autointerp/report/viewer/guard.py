"""What stands before every page: who may ask, and what a page may do."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MISDIRECTED, FORBIDDEN = 421, 403

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether a host to listen on is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hosts_of(host: str, also: Sequence[str] = ()) -> frozenset[str]:
    """The names by which a browser may call a viewer that listens on ``host``.

    A page of another name that was made to resolve to this machine (DNS rebinding) is not among
    them. Beyond loopback the machine's own names are, and those of ``also``.
    """
    names = {*LOOPBACK, host.lower(), *(name.lower() for name in also)}
    if not is_loopback(host):
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(names)


class Guard:
    """Answers only who calls the viewer by its name, and takes forms of its own pages only.

    ``hosts`` are the names, without ports; with ``addresses``, IP addresses too: they cannot be
    rebound.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], addresses: bool = False) -> None:
        self._app = app
        self._hosts = hosts
        self._addresses = addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], headers)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self._is_ours(_name(host)):
            told = "this viewer is not known by that name; open the address that it printed\n"
            return PlainTextResponse(told, MISDIRECTED)
        origin = headers.get("origin")
        if method not in ("GET", "HEAD") and origin and origin.partition("://")[2] != host:
            return PlainTextResponse("a form of another page is not taken\n", FORBIDDEN)
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self._hosts:
            return True
        return self._addresses and _is_address(name)


def _name(host: str) -> str:
    """The Host header without its port, and without the brackets of IPv6."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
