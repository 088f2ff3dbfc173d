"""The files of one line each that say what the latents of a folder are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autointerp.config import RunConfig
from autointerp.export import neuronpedia_rows as rows
from autointerp.export.batches import write_line
from autointerp.export.neuronpedia_latents import Place


def write_headers(target: Path, place: Place, config: RunConfig, release: str, layers: int) -> None:
    """Write ``release``, ``model``, ``sourceset`` and ``source``, each as .jsonl.

    ``layers`` is how many the model has at least; Neuronpedia keeps what it knows of a model.
    """
    model = rows.plain(config.subject.model.rstrip("/").rsplit("/", 1)[-1])
    about = rows.plain(f"Explanations of {place.hook} of {model} by autointerp: {config.run.name}")
    own: dict[str, Any] = {"creatorId": place.creator, "createdAt": place.moment}
    told = {**own, "creatorName": "autointerp", "description": about}
    whose = {"modelId": place.model}
    corpus = rows.plain(config.corpus.source.rstrip("/").rsplit("/", 1)[-1])
    found: dict[str, rows.Row] = {
        "release": rows.Release.model_validate(
            {**told, "name": release, "descriptionShort": rows.plain(config.run.name)}
        ),
        "model": rows.Model.model_validate(
            {
                **own,
                "id": place.model,
                "displayName": model,
                "displayNameShort": model,
                "layers": layers,
                "neuronsPerLayer": 0,
                "owner": "unknown",
                "updatedAt": place.moment,
            }
        ),
        "sourceset": rows.SourceSet.model_validate(
            {**told, **whose, "name": place.source_set, "releaseName": release}
        ),
        "source": rows.Source.model_validate(
            {
                **own,
                **whose,
                "id": place.source,
                "setName": place.source_set,
                "dataset": corpus,
                "notes": about,
            }
        ),
    }
    for file, row in found.items():
        write_line(target / f"{file}.jsonl", row.model_dump())
