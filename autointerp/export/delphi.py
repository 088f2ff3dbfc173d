"""A run directory made of what delphi left: its cache, explanations and scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from autointerp.config import RunConfig, build_config
from autointerp.examples.cached import Corpus, store_of_rows
from autointerp.examples.options import ExampleOptions
from autointerp.export.delphi_cache import Cache
from autointerp.export.delphi_texts import SCORERS, read_explanations, read_score
from autointerp.export.hub import replacing
from autointerp.latents import AutointerpError
from autointerp.pipeline import directory
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import IMPORTED, Scored
from autointerp.pipeline.status import STATUS_FILE
from autointerp.pipeline.summary import summarise

_TOLD_EVERY = 1000  # latents

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


def take_cache(
    source: Path,
    run: Path,
    observe: Observe,
    *,
    explanations: Path | None = None,
    scores: Sequence[Path] | None = None,
) -> Document:
    """Make the directory ``run`` of delphi's folder ``source``: results of its explanations and
    scores, and an example store where the cache has its tokens.

    ``explanations`` and ``scores`` are folders, by default those beside ``latents``. Scores of
    other scorers than detection and fuzz are left out, and named.

    Raises:
        AutointerpError: if it is no cache or not a whole one, or ``run`` exists.
    """
    if run.exists():
        raise AutointerpError(f"{run} is there already; choose another place with --run")
    cache = Cache(source)
    texts = _folder(explanations, cache.base / "explanations")
    folders = [_given(path) for path in scores] if scores else _children(cache.base / "scores")
    known = [folder for folder in folders if folder.name in SCORERS]
    with replacing(run, directory.RESULTS) as folder, ExitStack() as opened:
        for hookpoint in cache.hookpoints.values():
            opened.enter_context(hookpoint)
        corpus = _corpus(cache)
        latents = _results(folder, cache, texts, known, observe)
        if corpus is None and not any(latents.values()):
            raise AutointerpError(f"{source} has neither tokens nor explanations to import")
        config = _config(cache, run, latents, [SCORERS[folder.name] for folder in known])
        if corpus is not None:
            options = ExampleOptions(window=config.examples.window)
            told = partial(observe, "import")
            store_of_rows(folder / directory.EXAMPLES, cache.hookpoints, corpus, options, told)
        (folder / directory.CONFIG).write_text(config.to_yaml(), encoding="utf-8")
        record = {"imported": {"format": "delphi", "asked": cache.asked}}
        for name, value in {directory.RECORD: record, STATUS_FILE: _status(folder, run)}.items():
            (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return {
        "run": str(run),
        "latents": sum(map(len, latents.values())),
        "examples": corpus is not None,
        "scorers": [SCORERS[folder.name] for folder in known],
        "left_out": [folder.name for folder in folders if folder.name not in SCORERS],
    }


def _folder(given: Path | None, usual: Path) -> Path | None:
    if given is not None:
        return _given(given)
    return usual if usual.is_dir() else None


def _given(path: Path) -> Path:
    if not path.is_dir():
        raise AutointerpError(f"{path} is no folder")
    return path


def _children(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _results(
    folder: Path, cache: Cache, texts: Path | None, scorers: Sequence[Path], observe: Observe
) -> dict[str, list[int]]:
    """Write what was explained and scored; returns the latents of each coder."""
    found: dict[str, list[int]] = {name: [] for name in cache.hookpoints}
    with Results.open(folder / directory.RESULTS) as results:
        for done, explanation in enumerate(_explanations(texts, cache), 1):
            results.put_explanation(explanation)
            found[explanation.latent.coder].append(explanation.latent.index)
            if explanation.status == "explained":
                made = (read_score(place, explanation, cache.asked) for place in scorers)
                results.put_scores([Scored(score) for score in made if score is not None])
            if done % _TOLD_EVERY == 0:
                observe("import", done, 0)
    return found


def _explanations(texts: Path | None, cache: Cache) -> Iterable[Any]:
    return read_explanations(texts, cache.hookpoints.keys()) if texts is not None else ()


def _config(
    cache: Cache, run: Path, latents: dict[str, list[int]], scorers: Sequence[str]
) -> RunConfig:
    """What the run would have been asked for, as far as delphi says."""
    read = _asked(cache)
    coder = str(cache.asked.get("sparse_model") or cache.base)
    length = max((h.shape[1] for h in cache.hookpoints.values() if h.shape), default=256)
    tree = {
        "run": {"name": run.name, "directory": str(run.parent)},
        "subject": {
            "model": cache.model,
            "coders": {name: {"path": coder, "hook": name} for name in cache.hookpoints},
            "context_length": length,
        },
        "corpus": {
            "source": str(read.get("dataset_repo") or "unknown"),
            "column": str(read.get("dataset_column") or "text"),
            "tokens": int(read.get("n_tokens") or 1),
        },
        "examples": {"window": min(ExampleOptions.window, length)},
        "latents": {name: indices for name, indices in latents.items() if indices},
        "explainer": {"kind": "pattern"},
        "scorers": [{"kind": kind} for kind in scorers],
    }
    return build_config(tree, str(cache.base))


def _corpus(cache: Cache) -> Corpus | None:
    """What was read; None if the cache has not kept all tokens."""
    from autointerp.subject.vocabulary import model_vocabulary

    shapes = {hookpoint.shape for hookpoint in cache.hookpoints.values()}
    if None in shapes:
        return None
    if len(shapes) > 1:
        raise AutointerpError(
            f"{cache.base}: hook points have rows of different shapes; import them apart"
        )
    rows, length = next(shape for shape in shapes if shape)
    source = {name: _asked(cache).get(name) for name in ("dataset_repo", "dataset_split")}
    return Corpus(cache.model, model_vocabulary(cache.model), source, rows, length)


def _asked(cache: Cache) -> Document:
    """What the cache was asked to read."""
    return next(iter(cache.hookpoints.values())).config


def _status(folder: Path, run: Path) -> Document:
    """What ``status`` tells of the run."""
    with Results.read(folder / directory.RESULTS) as results:
        count = sum(results.statuses(IMPORTED).values())
        document = summarise(
            results, run=run, explainer=IMPORTED, planned=count, seconds=0.0, seed=0
        )
    return {**document, "stage": "done", "reason": None}
