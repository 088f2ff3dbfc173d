"""The viewer's pages as a web application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from autointerp.latents import AutointerpError, LatentId
from autointerp.report.tokens import TEMPLATES, environment, visible
from autointerp.report.viewer import forms, pages
from autointerp.report.viewer.about import about
from autointerp.report.viewer.building import signature
from autointerp.report.viewer.guard import Guard
from autointerp.report.viewer.sides import Shown, Side

HERE = Path(__file__).parent
LARGEST = 200_000  # bytes of a form
NOT_FOUND, BAD_INPUT = 404, 400

Handler = Callable[[Side, Mapping[str, str]], Response]


class NoPageError(AutointerpError):
    """There is no such page or latent."""


class Viewer:
    """Answers requests; what takes time is done in threads."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._templates = environment(HERE / "templates")
        self._templates.filters.update(query=urlencode, visible=visible)

    def routes(self) -> list[Route | Mount]:
        """Every page; those of a second run below /b."""
        routes: list[Route | Mount] = []
        for side in self._shown.sides:
            routes += [
                Route(side.root or "/", self._of(side, self._search), name=f"search{side.root}"),
                Route(f"{side.root}/latent", self._of(side, self._latent)),
                Route(f"{side.root}/live", self._of(side, self._live), methods=["GET", "POST"]),
                Route(f"{side.root}/about", self._of(side, self._about)),
            ]
        if self._shown.pairs is not None:
            routes.append(Route("/compare", self._of(self._shown.sides[0], self._compare)))
            routes.append(Route("/compare/latent", self._of(self._shown.sides[0], self._pair)))
        routes.append(Mount("/static", _Static(directory=HERE / "static")))
        return routes

    def _of(self, side: Side, handler: Handler) -> Callable[[Request], Any]:
        """An endpoint that reads a request's fields, and answers mistakes with a page."""

        async def endpoint(request: Request) -> Response:
            fields = dict(request.query_params)
            if request.method == "POST":
                fields |= await _form(request)
            return await run_sync(self._answered, side, handler, fields)

        return endpoint

    def _answered(self, side: Side, handler: Handler, fields: Mapping[str, str]) -> Response:
        try:
            return handler(side, fields)
        except NoPageError as error:
            return self._page("error.html.j2", side, NOT_FOUND, title="Not found", told=str(error))
        except AutointerpError as error:
            told = str(error)
            return self._page("error.html.j2", side, BAD_INPUT, title="That cannot be", told=told)

    def _page(self, template: str, side: Side, status: int = 200, **values: Any) -> HTMLResponse:
        common = {"side": side, "sides": self._shown.sides, "paired": self._shown.paired}
        common["outdated"] = side.index.signature != signature(side.run)
        html = self._templates.get_template(template).render(**common, **values)
        return HTMLResponse(html.encode("utf-8", "replace"), status)

    def missing(self, request: Request, error: Exception) -> Response:
        """The page of an address that leads nowhere."""
        told = f"there is no page at {request.url.path}"
        side = self._shown.sides[0]
        return self._page("error.html.j2", side, NOT_FOUND, title="Not found", told=told)

    def _search(self, side: Side, fields: Mapping[str, str]) -> Response:
        latent = forms.named(fields.get("q", ""), side.index)
        if latent is not None:
            return RedirectResponse(f"{side.root}/latent?{urlencode({'id': str(latent)})}", 303)
        return self._page(
            "search.html.j2", side, **pages.search_page(side, forms.asked(fields, side.index))
        )

    def _latent(self, side: Side, fields: Mapping[str, str]) -> Response:
        row = self._row(side, fields)
        decoder = fields.get("neighbours") == "decoder"
        values = pages.latent_page(side, row, side.document(row.latent), decoder)
        return self._page("latent.html.j2", side, **values)

    def _row(self, side: Side, fields: Mapping[str, str]) -> Any:
        latent = LatentId.parse(fields.get("id", ""))
        row = side.index.latent(latent)
        if row is None:
            raise NoPageError(f"{latent} is not among the latents of {side.name}")
        return row

    def _live(self, side: Side, fields: Mapping[str, str]) -> Response:
        text = fields.get("text", "").replace("\r\n", "\n")
        if not text:
            return self._page("live.html.j2", side, text="", told=None, found=None)
        try:
            found = pages.live_page(side, text)
        except AutointerpError as error:
            told = str(error)
            return self._page("live.html.j2", side, BAD_INPUT, text=text, told=told, found=None)
        return self._page("live.html.j2", side, text=text, told=None, found=found)

    def _about(self, side: Side, fields: Mapping[str, str]) -> Response:
        return self._page("about.html.j2", side, **about(side.run))

    def _compare(self, side: Side, fields: Mapping[str, str]) -> Response:
        return self._page("compare.html.j2", side, **pages.compare_page(self._shown, fields))

    def _pair(self, side: Side, fields: Mapping[str, str]) -> Response:
        latent = LatentId.parse(fields.get("id", ""))
        for other in self._shown.sides:
            self._row(other, fields)
        values = pages.pair_page(self._shown.sides, latent)
        return self._page("pair.html.j2", side, **values)


class _Static(StaticFiles):
    """The viewer's own files, and the stylesheet that all of our pages share."""

    def lookup_path(self, path: str) -> Any:
        if path == "style.css":
            full = TEMPLATES / path
            return str(full), full.stat()
        return super().lookup_path(path)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of one that is too large nothing."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return {}
    return {k: v[-1] for k, v in parse_qs(body.decode("utf-8", "replace")).items()}


def application(shown: Shown, hosts: frozenset[str], addresses: bool = False) -> ASGIApp:
    """The viewer, that answers to these names alone (and to IP addresses, if said)."""
    viewer = Viewer(shown)
    pages = Starlette(routes=viewer.routes(), exception_handlers={NOT_FOUND: viewer.missing})
    return Guard(pages, hosts, addresses)
