"""Prompts on the terminal and as a document: each request's turns, as a model would get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from autointerp.llm.client import Request

Prompts = Mapping[str, Sequence[Request]]  # of the explainer, and of each scorer by its name


def as_document(prompts: Prompts) -> dict[str, Any]:
    """``{"explainer": [request, …], SCORER: [request, …]}``."""
    return {name: [_document(request) for request in asked] for name, asked in prompts.items()}


def _document(request: Request) -> dict[str, Any]:
    return {
        "purpose": request.purpose,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "schema": request.schema,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
    }


def print_prompts(prompts: Prompts) -> None:
    console = Console()
    for name, requests in prompts.items():
        if not requests:
            console.print(f"{name}: asks no language model", style="dim")
        for number, request in enumerate(requests, 1):
            title = f"{name}: {request.purpose}, request {number} of {len(requests)}"
            console.rule(title, align="left")
            for message in request.messages:
                console.print(f"[bold]{message.role}[/bold]")
                console.print(message.content, markup=False, highlight=False, soft_wrap=True)
