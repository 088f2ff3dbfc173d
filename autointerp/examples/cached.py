"""An example store of activations that another program found: rows of tokens, and where in them
which latents fired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autointerp.examples.documents import Geometry
from autointerp.examples.layout import CHUNK_TOKENS, chunk_of, recorded
from autointerp.examples.options import ExampleOptions
from autointerp.examples.state import HarvestState
from autointerp.examples.store import ExampleStore
from autointerp.latents import AutointerpError


class Fired(NamedTuple):
    """Activations by ascending place: [n] each. A place is row · row length + position."""

    places: NDArray[np.int64]
    latents: NDArray[np.int32]
    values: NDArray[np.float32]

    def part(self, low: int, high: int | None) -> Fired:
        """Those from ``low`` to ``high``, as a slice."""
        held = slice(low, high)
        return Fired(self.places[held], self.latents[held], self.values[held])


class CachedCoder(Protocol):
    """What another program found of one coder, read from its beginning to its end."""

    @property
    def width(self) -> int: ...

    @property
    def claims(self) -> Mapping[str, Any]: ...

    def rows(self, low: int, high: int) -> NDArray[np.int32]:
        """The token ids of these rows: [high − low, row length]."""
        ...

    def until(self, place: int) -> Iterator[Fired]:
        """The activations before this place that were not given out yet; a latent's come in
        order."""
        ...


@dataclass(frozen=True)
class Corpus:
    """The text that was read: ``rows`` rows of ``length`` tokens, and where it is from."""

    model: str
    vocabulary: Sequence[str]
    source: Mapping[str, Any]
    rows: int
    length: int


def store_of_rows(
    directory: Path,
    coders: Mapping[str, CachedCoder],
    corpus: Corpus,
    options: ExampleOptions,
    observe: Callable[[int, int], None],
    seed: int = 0,
) -> ExampleStore:
    """Write the example store of these coders; every row is a document. Memory depends on the
    latents and what is kept of each, not on the rows. ``observe`` is told of rows.

    Raises:
        AutointerpError: if coders have different rows, or a row has a token that the vocabulary
            has not.
    """
    geometry = Geometry.of(options.window, corpus.length + options.window)  # no row is cut
    state = HarvestState.resume(
        directory,
        _settings(coders, corpus, options, seed),
        {name: (coder.width, name, dict(coder.claims)) for name, coder in coders.items()},
        corpus.vocabulary,
    )
    at_once = max(1, CHUNK_TOKENS // corpus.length)
    for low in range(0, corpus.rows, at_once):
        high = min(low + at_once, corpus.rows)
        encoded = list(_same_rows(coders, low, high, len(corpus.vocabulary)))
        texts = ["".join(corpus.vocabulary[t] for t in row.tolist()) for row in encoded]
        records = recorded(texts, encoded, geometry, options.splits, seed)
        chunk = chunk_of(encoded, records, geometry, seed, state.windows, state.background)
        state.append(chunk, records)
        begin, end = low * corpus.length, high * corpus.length
        for name, coder in coders.items():
            for fired in coder.until(end):
                positive = fired.values > 0
                tokens = (fired.places[positive] - begin).astype(np.int32)
                latents, values = fired.latents[positive], fired.values[positive]
                state.tallies[name].ingest(chunk, tokens, latents, values)
        observe(high, corpus.rows)
    state.finish({})
    return ExampleStore.open(directory)


def _settings(
    coders: Mapping[str, CachedCoder], corpus: Corpus, options: ExampleOptions, seed: int
) -> dict[str, Any]:
    """What a store says of how it was made, as a harvest's does."""
    return {
        "subject": corpus.model,
        "context_length": corpus.length + options.window,
        "corpus": dict(corpus.source),
        "examples": {**asdict(options), "splits": list(options.splits)},
        "seed": seed,
        "coders": {name: {"hook": name, "width": coder.width} for name, coder in coders.items()},
    }


def _same_rows(
    coders: Mapping[str, CachedCoder], low: int, high: int, vocabulary: int
) -> NDArray[np.int32]:
    """The rows, which all coders must have read."""
    names = list(coders)
    first = coders[names[0]].rows(low, high)
    for name in names[1:]:
        if not np.array_equal(coders[name].rows(low, high), first):
            raise AutointerpError(
                f"{names[0]} and {name} were cached over different texts; import them apart"
            )
    if first.size and not 0 <= first.min() <= first.max() < vocabulary:
        raise AutointerpError(
            f"the cache has token {first.max()}, and the model's tokenizer {vocabulary} tokens;"
            " the cache names another model than its own"
        )
    return first
