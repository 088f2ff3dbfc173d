"""A run as Neuronpedia's import files: ``MODEL/LAYER-SET/`` with a folder of batches a table.

``release.jsonl``, ``model.jsonl``, ``sourceset.jsonl`` and ``source.jsonl`` have one line each;
``features``, ``activations`` and ``explanations`` have ``batch-N.jsonl.gz`` of 1024 latents. Scores
are not imported there: ``scores`` is for whoever has use for them. The same run gives the same
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from autointerp.config import RunConfig
from autointerp.examples.store import ExampleStore
from autointerp.export import neuronpedia_rows as rows
from autointerp.export.batches import Batches, write_line
from autointerp.export.hub import exported_config, replacing
from autointerp.export.neuronpedia_headers import write_headers
from autointerp.export.neuronpedia_latents import Place, Told
from autointerp.export.shards import read_rows
from autointerp.export.windows import BLOCK, StoreTables
from autointerp.latents import AutointerpError, Explanation, LatentId
from autointerp.pipeline import directory
from autointerp.pipeline.following import Following
from autointerp.pipeline.own_texts import EXPLAINER, counting
from autointerp.pipeline.published import PublishedExamples, examples_of
from autointerp.pipeline.results import Results
from autointerp.pipeline.rows import (
    EXPLANATION_COLUMNS,
    LIGHT_SCORE_COLUMNS,
    TRUE,
    read_explanation,
    read_scored,
)
from autointerp.sections import CASCADE

MARK = "neuronpedia.json"
BOT = "clkht01d40000jv08hvalcvly"  # the user of Neuronpedia's seeded database who owns uploads
_TOLD_EVERY = 1000  # latents

Observe = Callable[[str, int, int], None]
Document = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """What things are called there; None is what follows from the run."""

    model: str | None = None
    source_set: str | None = None
    creator: str = BOT


def export_neuronpedia(
    run: Path, output: Path, observe: Observe, *, names: Names, examples: bool = True
) -> Document:
    """Write a run as Neuronpedia's import files into ``output``, over an earlier export; returns
    what it holds. Without ``examples`` no text of the corpus goes out.

    Raises:
        AutointerpError: if there is no run, it is being written, a name is none that Neuronpedia
            takes, a hook has no layer, or ``output`` holds other files.
    """
    config = exported_config(run)
    with Results.read(run / directory.RESULTS) as results, results.unchanging():
        whole = _Whole(run, config, results, names, examples)
        with replacing(output, MARK) as folder:
            document = whole.write(folder, observe)
            write_line(folder / MARK, document)
    sizes = [path.stat().st_size for path in output.rglob("*") if path.is_file()]
    return {"run": str(run), "output": str(output), "bytes": sum(sizes), **document}


class _Whole:
    """Writes the coders of a run one after the other."""

    def __init__(
        self, run: Path, config: RunConfig, results: Results, names: Names, examples: bool
    ) -> None:
        self._config, self._results, self._examples = config, results, examples
        self._held = examples_of(run)
        self._tables = StoreTables(self._held) if isinstance(self._held, ExampleStore) else None
        query = "SELECT DISTINCT coder FROM explanations ORDER BY coder"
        self._coders = [coder for (coder,) in results.query(query)]
        if not self._coders:
            raise AutointerpError(f"{run} has no explanations to export")
        written = datetime.fromtimestamp((run / directory.RESULTS).stat().st_mtime, UTC)
        self._moment = written.isoformat(timespec="seconds")
        self._creator = checked(rows.UserId, names.creator, "--creator")
        self._model = checked(
            rows.ModelId, names.model or _slug(config.subject.model, "._-"), "--model-id"
        )
        base = names.source_set or _slug(config.run.name, "-")
        self._base = checked(rows.SetName, base, "--source-set")
        self._places = self._placed()

    def _placed(self) -> dict[str, Place]:
        """Where each coder's latents go; a set has one source a layer."""
        hooks = {coder: self._hook(coder) for coder in self._coders}
        layers = {coder: _layer(coder, hook) for coder, hook in hooks.items()}
        alone = len(set(layers.values())) == len(layers)
        sets = {c: self._base if alone else f"{self._base}-{_slug(c, '-')}" for c in self._coders}
        return {
            coder: Place(
                self._model,
                f"{layers[coder]}-{sets[coder]}",
                sets[coder],
                hooks[coder],
                self._creator,
                self._moment,
            )
            for coder in self._coders
        }

    def _hook(self, coder: str) -> str:
        if isinstance(self._held, ExampleStore) and coder in self._held.coders:
            return self._held.coders[coder].hook
        section = self._config.subject.coders.get(coder)
        return (section and section.hook) or coder

    def write(self, folder: Path, observe: Observe) -> Document:
        """Write every coder's folder; returns what there is."""
        counts = "SELECT count(DISTINCT latent) FROM explanations WHERE coder = ?"
        sizes = {c: next(self._results.query(counts, (c,)))[0] for c in self._coders}
        layers = 1 + max(place.layer for place in self._places.values())
        total, done, told = sum(sizes.values()), 0, {}
        for coder, place in self._places.items():
            target = folder / place.model / place.source
            target.mkdir(parents=True)
            write_headers(target, place, self._config, self._base, layers)
            with Batches(target) as batches:
                for latent in self._told(coder, place):
                    batches.add(latent.tables())
                    done += 1
                    if done % _TOLD_EVERY == 0 or done == total:
                        observe("export", done, total)
            told[coder] = {"source": place.source, "rows": dict(batches.rows)}
        files = sum(1 for path in folder.rglob("*") if path.is_file()) + 1
        return {
            "files": files,
            "latents": total,
            "model": self._model,
            "examples": self._examples and self._held is not None,
            "sources": told,
        }

    def _told(self, coder: str, place: Place) -> Iterator[Told]:
        """All that is told of each explained latent of a coder."""
        query = (
            f"SELECT {EXPLANATION_COLUMNS}, NULL FROM explanations"
            " WHERE coder = ? AND kind = 'input' ORDER BY latent, explainer"
        )
        scores = (
            f"SELECT {LIGHT_SCORE_COLUMNS} FROM scores"
            " WHERE coder = ? AND control = ? ORDER BY latent, scorer"
        )
        indices = [i for (i,) in self._results.query(_INDICES, (coder,))]
        explainer = self._results.noted(EXPLAINER)
        read = map(read_explanation, self._results.query(query, (coder,)))
        scored = (read_scored(r).score for r in self._results.query(scores, (coder, TRUE)))
        explanations = Following(read, lambda e: e.latent.index)
        mine = Following(scored, lambda s: s.latent.index)
        statistics, windows = (
            Following(self._rows(coder, table, indices), itemgetter("index"))
            for table in ("latents", "examples")
        )
        for index in indices:
            own = _own(explanations.of(index), explainer)
            yield Told(
                place=place,
                latent=LatentId(coder, index),
                explanation=own,
                explained_by=self._asked(own) if own else None,
                scores=mine.of(index),
                statistics=next(iter(statistics.of(index)), {}),
                windows=windows.of(index),
            )

    def _rows(self, coder: str, table: str, indices: list[int]) -> Iterator[Document]:
        """The rows of one of the tables that are about the corpus."""
        if table == "examples" and not self._examples:
            return
        if isinstance(self._held, PublishedExamples):
            for part in read_rows(self._held.root, self._held.files(coder, table), BLOCK):
                yield from part.to_pylist()
        elif self._tables and isinstance(self._held, ExampleStore) and coder in self._held.coders:
            for low in range(0, len(indices), BLOCK):
                block = [LatentId(coder, index) for index in indices[low : low + BLOCK]]
                if table == "latents":
                    yield from self._tables.latents(block)
                else:
                    yield from self._tables.examples(block).to_pylist()

    def _asked(self, explanation: Explanation) -> str | None:
        """The language model that wrote an explanation, where one did."""
        for tier in self._config.tiers:
            llm = self._config.llms.get(str(tier.get("llm")))
            if llm is not None and explanation.explainer in (tier["kind"], CASCADE):
                return llm.model.rsplit("/", 1)[-1]
        return None


_INDICES = "SELECT DISTINCT latent FROM explanations WHERE coder = ? ORDER BY latent"


def _own(explanations: Iterable[Explanation], explainer: str | None) -> Explanation | None:
    """The explanation that counts, if it explains."""
    own = counting({e.explainer: e for e in explanations}, explainer)
    return own if own is not None and own.status == "explained" and own.text.strip() else None


def _slug(name: str, kept: str) -> str:
    """The last part of a name in the signs that Neuronpedia's names have."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(rf"[^a-z0-9{re.escape(kept)}]+", "-", last).replace(".", "-").strip("-") or "run"


def _layer(coder: str, hook: str) -> int:
    found = re.search(r"\d+", hook)
    if found is None:
        raise AutointerpError(
            f"the hook {hook!r} of coder {coder} has no layer, which Neuronpedia's names need;"
            " set subject.coders.NAME.hook"
        )
    return int(found[0])


def checked(kind: Any, text: str, option: str) -> str:
    """A name as Neuronpedia takes it. Raises AutointerpError naming the option."""
    try:
        TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise AutointerpError(f"{option}: Neuronpedia takes no {text!r}: {what}") from error
    return text
