"""The pass itself: documents in, rows through the subject, activations into the reservoirs."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.examples.documents import Geometry, ranges
from autointerp.examples.layout import (
    CHUNK_TOKENS,
    Group,
    Rows,
    chunk_of,
    grouped,
    placed,
    recorded,
    rows_of,
)
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions, Progress
from autointerp.examples.state import HarvestState
from autointerp.examples.tally import Chunk, CoderTally
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Batch, HookPoint, Subject

ACTIVATIONS_AT_ONCE = 2**18
QUALITY_FIRST = 512  # tokens of the first batch that coders are measured on
QUALITY_TOKENS = 256  # and about as many of every chunk
QUALITY_BATCHES = 8  # in every eighth of its batches


T = TypeVar("T")

# Tokens of a chunk, latents and values, one entry an activation.
_Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


class _Found(NamedTuple):
    """What was found in a batch."""

    states: dict[HookPoint, torch.Tensor]  # [n, d]
    parts: dict[str, _Part]  # of each coder


class _Adder:
    """Adds activations to the reservoirs in a thread of its own, at most a chunk behind."""

    def __init__(self, tallies: Mapping[str, CoderTally]) -> None:
        self._tallies = tallies
        self._thread = ThreadPoolExecutor(1)
        self._adding: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def add(self, name: str, chunk: Chunk, parts: list[_Part]) -> None:
        """Take over what one coder found in a chunk; ``parts`` is emptied."""
        if len(self._adding) > len(self._tallies):
            self._adding.pop(0).result()
        self._adding.append(self._thread.submit(self._ingest, name, chunk, parts.copy()))
        parts.clear()

    def catch_up(self) -> None:
        """Wait until all of it is in the reservoirs."""
        while self._adding:
            self._adding.pop(0).result()

    def _ingest(self, name: str, chunk: Chunk, parts: list[_Part]) -> None:
        if parts:
            columns = zip(*parts, strict=True)
            tokens, latents, values = (np.concatenate(column) for column in columns)
            self._tallies[name].ingest(chunk, tokens, latents, values)


class Pass:
    """One pass in progress, over a corpus or over one shard of it."""

    def __init__(
        self,
        subject: Subject,
        coders: dict[str, Attached],
        corpus: CorpusOptions,
        examples: ExampleOptions,
        seed: int,
        state: HarvestState,
        shard: Shard | None = None,
    ) -> None:
        self.subject, self.coders = subject, coders
        self.examples, self.seed, self.state = examples, seed, state
        self.corpus_tokens, self.shard = corpus.tokens, shard
        self.own = shard.bounds(corpus.tokens) if shard else (0, corpus.tokens)
        self.geometry = Geometry.of(examples.window, subject.context_length)
        self.hooks = sorted({a.hook for a in coders.values()})
        self._began = time.perf_counter()
        self._begun_tokens = state.log.tokens
        self._adder = _Adder(state.tallies)

    def run(
        self,
        texts: Iterator[str],
        progress: Callable[[Progress], None] | None,
        checkpoint_seconds: float,
        force: bool,
    ) -> None:
        """Read texts to their end or to the token limit, with checkpoints on the way.

        ``texts`` are those that are not in the state yet; of a shard, all those of the corpus.
        Documents are fetched in one thread, and what a chunk adds to the reservoirs is added in
        another, while the subject reads.
        """
        state, saved, cost = self.state, time.perf_counter(), 0.0
        with self._adder:
            for group in _ahead(self._groups(texts)):
                if not group.own:
                    continue
                self._read(group, force=force)
                if progress:
                    progress(self.progress())
                # Checkpoints take at most a thirtieth of the time, however large the state.
                if time.perf_counter() - saved > max(checkpoint_seconds, 30 * cost):
                    began = time.perf_counter()
                    self._adder.catch_up()
                    state.checkpoint()
                    saved = time.perf_counter()
                    cost = saved - began
            self._adder.catch_up()

    def _groups(self, texts: Iterator[str]) -> Iterator[Group]:
        """A shard's begin where those of a pass over the whole corpus do: it reads what that
        reads, in the same batches."""
        done = self.state.log.tokens
        before, done = (0, done) if self.shard else (done, 0)
        groups = grouped(texts, self.subject.encode_texts, self.corpus_tokens - before)
        return placed(groups, before, self.own, done)

    def progress(self) -> Progress:
        log = self.state.log
        seconds = time.perf_counter() - self._began
        speed = (log.tokens - self._begun_tokens) / seconds
        return Progress(log.tokens, self.own[1] - self.own[0], log.documents, speed)

    def report(self) -> dict[str, Any]:
        """What ``collect`` tells of its own run."""
        speed = self.progress().tokens_per_second
        return {"tokens_per_second": speed, "peak_memory_bytes": peak_memory()}

    def _read(self, group: Group, force: bool) -> None:
        state, geometry, seed = self.state, self.geometry, self.seed
        encoded = group.encoded
        records = recorded(group.texts, encoded, geometry, self.examples.splits, seed)
        chunk = chunk_of(encoded, records, geometry, seed, state.windows, state.background)
        rows = rows_of(encoded, records, geometry)
        first, checked = group.before == 0, force or state.log.documents > 0
        state.append(chunk, records)
        self._measure_transcoders(rows, QUALITY_FIRST if first else QUALITY_TOKENS)
        self._activations(chunk, rows, first, checked)

    def _activations(self, chunk: Chunk, rows: Rows, first: bool, checked: bool) -> None:
        stride = max(1, CHUNK_TOKENS // QUALITY_TOKENS // QUALITY_BATCHES)
        waiting: dict[str, list[_Part]] = {name: [] for name in self.coders}
        sparse = partial(self._sparse, rows)
        for number, found in enumerate(self.subject.each(rows.tokens, self.hooks, sparse)):
            if number % QUALITY_BATCHES == 0:
                tokens = len(next(iter(found.states.values())))
                self._measure(found.states, max(1, tokens // QUALITY_FIRST) if first else stride)
            if not checked:
                self._refuse_worthless()
            first, checked = False, True
            for name, part in found.parts.items():
                waiting[name].append(part)
                if sum(len(part[0]) for part in waiting[name]) > ACTIVATIONS_AT_ONCE:
                    self._adder.add(name, chunk, waiting[name])
        for name, parts in waiting.items():
            self._adder.add(name, chunk, parts)

    def _sparse(self, rows: Rows, batch: Batch) -> _Found:
        index, valid = self._positions(batch, rows)
        states = {hook: _select(state, valid) for hook, state in batch.states.items()}
        coders = self.coders.items()
        return _Found(states, {n: _sparse(a.coder, states[a.hook], index) for n, a in coders})

    def _positions(
        self, batch: Batch, rows: Rows
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
        """The chunk's token of every position to count, and which positions those are."""
        lengths = np.array(batch.lengths)
        starts = np.array([rows.starts[i] for i in batch.rows])
        masked = self.subject.masked
        index = ranges(starts + masked, lengths - masked).astype(np.int32)
        if not masked and lengths.min() == lengths.max():
            return index, None
        position = np.arange(lengths.max())
        return index, (position >= masked) & (position < lengths[:, None])

    def _measure(self, states: dict[HookPoint, torch.Tensor], stride: int) -> None:
        """See how well coders reconstruct every ``stride``-th of these positions."""
        for name, (coder, hook, target) in self.coders.items():
            if target in (None, hook):
                x = states[hook][::stride]
                self._compare(name, coder, x, x)

    def _measure_transcoders(self, rows: Rows, tokens: int) -> None:
        """The same of evenly spread rows, for coders that predict what the pass does not read."""
        apart = {n: a for n, a in self.coders.items() if a.target not in (None, a.hook)}
        if not apart:
            return
        hooks = sorted({h for a in apart.values() for h in (a.hook, a.target) if h})
        stride = max(1, len(rows.tokens) * self.geometry.content // tokens)
        some = rows.tokens[::stride]
        for batch in self.subject.each(some, hooks, lambda batch: batch):
            _, valid = self._positions(batch, Rows(some, [0] * len(some)))
            for name, (coder, hook, target) in apart.items():
                x = _select(batch.states[hook], valid)
                self._compare(name, coder, x, _select(batch.states[target or hook], valid))

    @torch.inference_mode()
    def _compare(self, name: str, coder: SparseCoder, x: torch.Tensor, y: torch.Tensor) -> None:
        self.state.quality(name, y.shape[-1]).add(y, coder.decode_sparse(coder.encode_sparse(x), x))

    def _refuse_worthless(self) -> None:
        for name, attached in self.coders.items():
            explained = self.state.qualities[name].variance_explained
            if explained is not None and explained < 0:
                raise AutointerpError(
                    f"coder {name} explains {explained:.2f} of the variance at {attached.hook},"
                    " less than nothing: probably the wrong hook or model; set its hook or --force"
                )


def _ahead(source: Iterator[T]) -> Iterator[T]:
    """The same items; each is fetched in another thread while the one before it is used."""
    with ThreadPoolExecutor(1) as fetcher:
        coming = fetcher.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = fetcher.submit(next, source, None)
            yield item


def peak_memory() -> int:
    """The largest resident size this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _select(state: torch.Tensor, valid: NDArray[np.bool_] | None) -> torch.Tensor:
    """The valid positions of a [b, t, d] tensor, as [n, d]."""
    if valid is None:
        return state.reshape(-1, state.shape[-1])
    return state[torch.from_numpy(valid).to(state.device)]


def _sparse(
    coder: SparseCoder, x: torch.Tensor, index: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Positive activations as (token of the chunk, latent, value)."""
    with torch.inference_mode():
        found = coder.encode_sparse(x)
    rows, latents = found.rows.cpu().numpy(), found.latents.cpu().numpy()
    values = found.values.float().cpu().numpy()
    tokens = index[rows]
    positive = values > 0
    if positive.all():
        return tokens, latents.astype(np.int32, copy=False), values
    return tokens[positive], latents[positive].astype(np.int32), values[positive]
