"""How far a run and its rerun agree: in scores, and in texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autointerp.pipeline import directory
from autointerp.pipeline.compare import compare
from autointerp.pipeline.own_texts import own_texts
from autointerp.pipeline.results import Results

RERUN = "rerun"  # what is noted in the results

Embed = Callable[[Sequence[str]], NDArray[np.float32]]  # unit vectors, [texts, width]
Document = dict[str, Any]


def agreement(run: Path, rerun: Path, embed: Embed | None) -> Document:
    """Of the latents that both runs have, explained by the run's ``explainer``: by scorer the
    intra-class correlation of the scores with its 95 % interval; the share of texts that are the
    same; and with an embedder the mean cosine of a latent's two texts, beside that of texts of
    different latents (``others``).

    Raises:
        AutointerpError: if one of the two has no scores.
    """
    compared = compare(run, rerun)
    told = ("metric", "n", "icc", "icc_interval")
    return {
        "run": run.name,
        "rerun": rerun.name,
        "explainer": compared["explainer_a"],
        "scores": {
            name: {key: figures[key] for key in told}
            for name, figures in compared["scores"].items()
            if "icc" in figures
        },
        "texts": _texts(run, rerun, embed),
    }


def noted_agreement(results: Results, explainer: str) -> Document | None:
    """What was last noted of a rerun; None if nothing was of this explainer's explanations."""
    found: Document = results.noted(RERUN) or {}
    return found if found.get("explainer") == explainer else None


def _texts(run: Path, rerun: Path, embed: Embed | None) -> Document:
    with (
        Results.read(run / directory.RESULTS) as first,
        Results.read(rerun / directory.RESULTS) as second,
    ):
        again = {e.latent: e.text for e in own_texts(second)}
        own = {e.latent: e.text for e in own_texts(first) if e.latent in again}
    pairs = [(text, again[latent]) for latent, text in own.items()]
    equal = sum(a == b for a, b in pairs) / len(pairs) if pairs else None
    document: Document = {"n": len(pairs), "equal": equal}
    if embed is None or len(pairs) < 2:
        return document
    a, b = (embed(side) for side in zip(*pairs, strict=True))
    cosines = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T
    same = np.eye(len(pairs), dtype=bool)
    means = {"cosine": float(cosines[same].mean()), "others": float(cosines[~same].mean())}
    return document | means
