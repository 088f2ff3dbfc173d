"""Delphi's explanations and scores, a file a latent: ``HOOKPOINT_latentINDEX.txt``.

An explanation's file has one JSON string; one of the scorers ``detection`` and ``fuzz`` a list of
judged texts, each with ``activating``, ``prediction`` (null without a usable reply),
``probability`` and ``distance`` (an activating one's quantile, of which 0 is the strongest).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from autointerp.latents import (
    AutointerpError,
    Explanation,
    Failure,
    Label,
    LatentId,
    Score,
    Source,
)
from autointerp.pipeline.rows import IMPORTED
from autointerp.scorers.labels import POSITIVE, Answer, label_score, too_few

SCORERS = {"detection": "detection", "fuzz": "fuzzing"}
SOURCES: Mapping[str, Source] = {
    "random": "random",
    "neighbours": "neighbour",
    "FAISS": "semantic",
}
JUDGE = "delphi"
UNREADABLE = "Explanation could not be parsed."  # what it writes in an explanation's place
_BETWEEN = "_latent"
_DECILES = 10


def read_explanations(folder: Path, coders: Collection[str]) -> Iterator[Explanation]:
    """The explanations in a folder, by latent.

    Raises:
        AutointerpError: naming the file of what cannot be used.
    """
    named = []
    for path in folder.glob("*.txt"):
        stem, found, index = path.stem.replace("--", "/").rpartition(_BETWEEN)
        if not found or not index.isdecimal():
            raise AutointerpError(f"{path} is not named as in layers.1{_BETWEEN}7.txt")
        if stem not in coders:
            raise AutointerpError(f"{path} is of {stem!r}; the cache has {', '.join(coders)}")
        named.append((LatentId(stem, int(index)), path))
    for latent, path in sorted(named):
        text = _read(path)
        if not isinstance(text, str):
            raise AutointerpError(f"{path} has no JSON string")
        usable = bool(text.strip()) and text != UNREADABLE
        yield Explanation(
            latent,
            text.strip() if usable else "",
            IMPORTED,
            status="explained" if usable else "failed",
            reason=None if usable else f"delphi: {text.strip() or 'an empty explanation'}",
        )


def read_score(folder: Path, explanation: Explanation, asked: Mapping[str, Any]) -> Score | None:
    """What a scorer's folder, named for the scorer, has of an explanation; None if nothing.

    ``asked`` is delphi's run configuration. Our metrics are computed of its judged items.

    Raises:
        AutointerpError: if the file is none of that scorer.
    """
    latent = explanation.latent
    name = f"{latent.coder}{_BETWEEN}{latent.index}.txt"
    path = folder / name.replace("/", "--")
    if not path.exists():
        return None
    source = SOURCES.get(_option(asked, "constructor_cfg", "non_activating_source"), "random")
    quantiles = int(_option(asked, "sampler_cfg", "n_quantiles") or _DECILES)
    items = _read(path)
    if not isinstance(items, list):
        raise AutointerpError(f"{path} has no list of judged texts")
    try:
        answers = [_answer(item, source, quantiles) for item in items]
    except (KeyError, TypeError) as error:
        raise AutointerpError(f"{path} is no result of {folder.name}: {error!r}") from error
    scorer = SCORERS[folder.name]
    if {answer.source for answer in answers} != {POSITIVE, source}:
        reason = "delphi judged no texts with and without the latent"
        return too_few(explanation, reason, scorer=scorer, judge=JUDGE)
    return label_score(
        answers,
        explanation,
        scorer=scorer,
        judge=JUDGE,
        against=source,
        details={"protocol": "delphi", "against": source},
    )


def _option(asked: Mapping[str, Any], section: str, name: str) -> Any:
    held = asked.get(section)
    return held.get(name) if isinstance(held, dict) else None


def _answer(item: Mapping[str, Any], source: Source, quantiles: int) -> Answer:
    truth, label, probability = item["activating"], item["prediction"], item["probability"]
    where = POSITIVE if truth else source
    decile = _decile(item["distance"], quantiles) if truth else None
    if label is None:
        return Failure("delphi had no usable reply", where, decile)
    return Label(bool(truth), bool(label), probability, where, decile)


def _decile(distance: float, quantiles: int) -> int | None:
    """Our decile, of which 0 is the weakest, of its quantile, of which 0 is the strongest."""
    if not 0 <= distance < quantiles or distance != int(distance):
        return None
    return (quantiles - 1 - int(distance)) * _DECILES // quantiles


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AutointerpError(f"{path} is not JSON: {error}") from error
