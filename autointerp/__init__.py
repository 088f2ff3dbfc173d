"""Explain the latents of sparse autoencoders in words, and measure how true the words are.

The names below are what a notebook needs; each is imported when it is first used, so that the
command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.config import RunConfig, load_config
    from autointerp.examples.sampling import evidence, labelled_set
    from autointerp.examples.store import ExampleStore
    from autointerp.latents import Evidence, Example, Explanation, LabelledSet, LatentId, Score
    from autointerp.patterns import parse
    from autointerp.pipeline.results import Results
    from autointerp.subject.checkpoints import load_coder
    from autointerp.subject.loading import load_subject
    from autointerp.subject.probing import ProbeQueue

_HOMES = {
    "autointerp.config": ("RunConfig", "load_config"),
    "autointerp.examples.sampling": ("evidence", "labelled_set"),
    "autointerp.examples.store": ("ExampleStore",),
    "autointerp.latents": (
        "Evidence",
        "Example",
        "Explanation",
        "LabelledSet",
        "LatentId",
        "Score",
    ),
    "autointerp.patterns": ("parse",),
    "autointerp.pipeline.results": ("Results",),
    "autointerp.subject.checkpoints": ("load_coder",),
    "autointerp.subject.loading": ("load_subject",),
    "autointerp.subject.probing": ("ProbeQueue",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Evidence",
    "Example",
    "ExampleStore",
    "Explanation",
    "LabelledSet",
    "LatentId",
    "ProbeQueue",
    "Results",
    "RunConfig",
    "Score",
    "evidence",
    "labelled_set",
    "load_coder",
    "load_config",
    "load_subject",
    "parse",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'autointerp' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
