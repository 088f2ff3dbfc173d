"""The document of any latent of a run, for who looks at one after the other, from any thread."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from autointerp.latents import LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.published import Examples, examples_of
from autointerp.pipeline.results import Results

Document = dict[str, Any]


class LatentDocuments:
    """Call it with a latent. The examples are opened once, the results anew every time; what it
    takes to read examples is imported with the first."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lock = Lock()  # of what an example store works out when it is first asked

    @cached_property
    def _examples(self) -> Examples | None:
        return examples_of(self._run)

    def __call__(self, latent: LatentId) -> Document:
        """The document of ``autointerp show``.

        Raises:
            AutointerpError: if the run has not looked at the latent.
        """
        from autointerp.pipeline.shown import latent_document

        with self._lock, Results.read(self._run / directory.RESULTS) as results:
            return latent_document(results, self._examples, latent)


def same_latents(first: Path, second: Path) -> bool:
    """Whether two runs have the same subject and coders, so that a latent of one is the latent of
    that name in the other."""
    about = []
    for run in (first, second):
        with Results.read(run / directory.RESULTS) as results:
            held = results.settings()
        about.append({k: v for k, v in held.items() if k.startswith(("subject.", "checkpoints."))})
    return about[0] == about[1]
