"""Prompts on the terminal and as a document: each request's turns, as a model would get them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from autointerp.llm.client import Request
from autointerp.pipeline.rendered import Rendered


def as_document(rendered: Rendered) -> dict[str, Any]:
    """``{"explainer": [request, …], "scorers": {NAME: [request, …]}}``."""
    return {
        "explainer": [_document(request) for request in rendered.explainer],
        "scorers": {
            name: [_document(request) for request in requests]
            for name, requests in rendered.scorers.items()
        },
    }


def _document(request: Request) -> dict[str, Any]:
    return {
        "purpose": request.purpose,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "schema": request.schema,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }


def print_rendered(rendered: Rendered) -> None:
    console = Console()
    groups = {"explainer": rendered.explainer, **rendered.scorers}
    for name, requests in groups.items():
        if not requests:
            console.print(f"{name}: asks no language model", style="dim")
        for number, request in enumerate(requests, 1):
            title = f"{name}: {request.purpose}, request {number} of {len(requests)}"
            console.rule(title, align="left")
            for message in request.messages:
                console.print(f"[bold]{message.role}[/bold]")
                console.print(message.content, markup=False, highlight=False, soft_wrap=True)
