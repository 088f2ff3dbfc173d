"""One streaming pass over a corpus: tokens in, every latent's windows and statistics out."""

from __future__ import annotations

import errno
import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.examples.corpus import document_hash, documents, split_index
from autointerp.examples.documents import DOCUMENT, Geometry, mix, ranges
from autointerp.examples.state import HarvestState
from autointerp.examples.store import ExampleStore
from autointerp.examples.tally import Chunk, window_keys
from autointerp.latents import AutointerpError
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import Batch, HookPoint, Subject

CHUNK_TOKENS = 2**16
ACTIVATIONS_AT_ONCE = 2**18
QUALITY_FIRST = 512  # tokens of the first batch that coders are measured on
QUALITY_TOKENS = 256  # and about as many of every chunk


@dataclass(frozen=True)
class CorpusOptions:
    """Which text to read, and how many tokens of it at most."""

    source: str = "stdlib"
    column: str = "text"
    tokens: int = 1_000_000


@dataclass(frozen=True)
class ExampleOptions:
    """What to keep: windows a latent by split and kind, and shared random windows."""

    window: int = 32
    background: int = 4096
    splits: tuple[float, float, float] = (0.4, 0.2, 0.4)
    explain_top: int = 40
    explain_sampled: int = 200
    select_sampled: int = 60
    test_sampled: int = 120

    @property
    def keep(self) -> tuple[int, int, int, int]:
        """The sizes of the reservoirs, in the order of ``store.GROUPS``."""
        return (self.explain_top, self.explain_sampled, self.select_sampled, self.test_sampled)


class Attached(NamedTuple):
    """A coder, the hook it reads, and the one it reconstructs (itself unless a transcoder)."""

    coder: SparseCoder
    hook: HookPoint
    target: HookPoint | None = None


@dataclass(frozen=True)
class Progress:
    """How far a harvest is; ``tokens_per_second`` is of this process."""

    tokens: int
    total: int
    documents: int
    tokens_per_second: float


# Tokens of a chunk, latents and values, one entry an activation.
_Part = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


@dataclass
class _Rows:
    """The rows of a chunk, and where in it each begins."""

    tokens: list[NDArray[np.int32]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


def collect(
    subject: Subject,
    coders: Mapping[str, Attached | tuple[SparseCoder, HookPoint]],
    corpus: CorpusOptions,
    examples: ExampleOptions,
    directory: Path | str,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    *,
    texts: Iterator[str] | None = None,
    force: bool = False,
    checkpoint_seconds: float = 20.0,
) -> ExampleStore:
    """Read the corpus once and leave an :class:`ExampleStore` in ``directory``.

    Working memory depends on the number of latents and on what is kept of each, not on the
    number of tokens. A pass that was killed continues from its last checkpoint when called
    again with the same settings, and ends with the same store; a finished one is returned as
    it is. ``texts`` replaces the corpus's source.

    Raises:
        AutointerpError: for a coder that does not fit its hook or explains less than nothing
            there (unless ``force``), an unusable corpus or directory, or other settings than
            those the directory was begun with.
    """
    attached = {name: _attach(subject, Attached(*value)) for name, value in coders.items()}
    _check(subject, attached, examples)
    settings = _settings(subject, attached, corpus, examples, seed)
    directory = Path(directory)
    with _disk_errors(directory):
        if HarvestState.finished(directory, settings):
            return ExampleStore.open(directory)
        source = documents(corpus.source, corpus.column) if texts is None else texts
        state = HarvestState.resume(
            directory,
            settings,
            {n: (a.coder.d_sae, str(a.hook), _claims(a.coder)) for n, a in attached.items()},
            subject.vocabulary,
        )
        harvest = _Harvest(subject, attached, corpus, examples, seed, state)
        harvest.run(islice(source, state.log.documents, None), progress, checkpoint_seconds, force)
        state.finish(harvest.report())
    return ExampleStore.open(directory)


def merge(stores: Sequence[ExampleStore], directory: Path | str) -> ExampleStore:
    """Write the store of the union of stores that were collected over different documents.

    It equals one harvest of all the documents in turn.

    Raises:
        AutointerpError: if there are none, or they differ in anything but their documents.
    """
    if not stores:
        raise AutointerpError("nothing to merge: no stores were given")
    directory = Path(directory)
    settings = stores[0].header["settings"]
    for store in stores[1:]:
        HarvestState.compare(store.directory, store.header["settings"], settings, {"corpus"})
    with _disk_errors(directory):
        state = HarvestState.resume(
            directory,
            settings,
            {e["name"]: (e["width"], e["hook"], e["claims"]) for e in stores[0].header["coders"]},
            stores[0].vocabulary,
        )
        for store in stores:
            state.absorb(store)
        state.finish({})
    return ExampleStore.open(directory)


class _Harvest:
    """One pass in progress."""

    def __init__(
        self,
        subject: Subject,
        coders: dict[str, Attached],
        corpus: CorpusOptions,
        examples: ExampleOptions,
        seed: int,
        state: HarvestState,
    ) -> None:
        self.subject, self.coders = subject, coders
        self.total, self.examples, self.seed, self.state = corpus.tokens, examples, seed, state
        self.geometry = Geometry.of(examples.window, subject.context_length)
        self.hooks = sorted({a.hook for a in coders.values()})
        self._began = time.perf_counter()
        self._begun_tokens = state.log.tokens
        self._adding: list[Future[None]] = []

    def run(
        self,
        texts: Iterator[str],
        progress: Callable[[Progress], None] | None,
        checkpoint_seconds: float,
        force: bool,
    ) -> None:
        """Read texts to their end or to the token limit, with checkpoints on the way.

        What a chunk adds to the reservoirs is added in another thread, while the subject reads
        the next chunk.
        """
        with ThreadPoolExecutor(1) as self._adder:
            self._run(texts, progress, checkpoint_seconds, force)

    def _run(
        self,
        texts: Iterator[str],
        progress: Callable[[Progress], None] | None,
        checkpoint_seconds: float,
        force: bool,
    ) -> None:
        saved, cost = time.perf_counter(), 0.0
        for batch in self._chunks(texts):
            self._read(*batch, force=force)
            if progress:
                progress(self.progress())
            # Checkpoints take at most a thirtieth of the time, however large the state.
            if time.perf_counter() - saved > max(checkpoint_seconds, 30 * cost):
                began = time.perf_counter()
                self._catch_up()
                self.state.checkpoint()
                saved = time.perf_counter()
                cost = saved - began
        self._catch_up()
        # Writing the store comes next, and takes as long as a checkpoint.
        if time.perf_counter() - saved > checkpoint_seconds:
            self.state.checkpoint()

    def progress(self) -> Progress:
        log = self.state.log
        seconds = time.perf_counter() - self._began
        speed = (log.tokens - self._begun_tokens) / seconds
        return Progress(log.tokens, self.total, log.documents, speed)

    def report(self) -> dict[str, Any]:
        """What ``collect`` tells of its own run."""
        speed = self.progress().tokens_per_second
        return {"tokens_per_second": speed, "peak_memory_bytes": peak_memory()}

    def _chunks(self, texts: Iterator[str]) -> Iterator[tuple[list[str], list[NDArray[np.int32]]]]:
        """Groups of documents of about CHUNK_TOKENS tokens, until the limit.

        The groups depend on the documents alone, so that a resumed pass forms the same batches.
        """
        tokens = self.state.log.tokens
        pending: list[str] = []
        pending_ids: list[NDArray[np.int32]] = []
        while tokens < self.total:
            group: list[str] = []
            encoded: list[NDArray[np.int32]] = []
            size = 0
            while size < min(CHUNK_TOKENS, self.total - tokens):
                if not pending:
                    pending = list(islice(texts, 8))
                    if not pending:
                        break
                    pending_ids = self.subject.encode_texts(pending)
                group.append(pending.pop(0))
                encoded.append(pending_ids.pop(0)[: self.total - tokens - size])
                size += len(encoded[-1])
            if not group:
                return
            tokens += size
            yield group, encoded

    def _read(self, texts: list[str], encoded: list[NDArray[np.int32]], force: bool) -> None:
        records = self._records(texts, encoded)
        chunk, rows = self._chunk(encoded, records)
        first = self.state.log.documents == 0
        self.state.append(chunk, records)
        self._measure_transcoders(rows, QUALITY_FIRST if first else QUALITY_TOKENS)
        self._activations(chunk, rows, first, force)

    def _records(self, texts: list[str], encoded: list[NDArray[np.int32]]) -> NDArray[np.void]:
        records = np.zeros(len(texts), DOCUMENT)
        offset = windows = 0
        for i, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
            identity = document_hash(text)
            head = self.geometry.head(identity, self.seed, len(ids))
            split = split_index(identity, self.examples.splits)
            records[i] = (offset, identity, windows, len(ids), head, split)
            offset += len(ids)
            windows += self.geometry.windows(len(ids), head)
        return records

    def _chunk(
        self, encoded: list[NDArray[np.int32]], records: NDArray[np.void]
    ) -> tuple[Chunk, _Rows]:
        """Lay out a group of documents: their windows and the rows the subject reads."""
        size = self.geometry.window
        rows = _Rows()
        per_document = np.zeros(len(records), np.int64)
        for i, (ids, record) in enumerate(zip(encoded, records, strict=True)):
            per_document[i] = self.geometry.windows(len(ids), int(record["head"]))
            for low, high in self.geometry.rows(len(ids), int(record["head"])):
                rows.tokens.append(ids[low:high])
                rows.starts.append(int(record["offset"]) + low)
        owner = np.repeat(np.arange(len(records)), per_document)
        heads = records["head"].astype(np.int64)
        starts = ranges(np.zeros(len(records), np.int64), per_document) * size + heads[owner]
        tokens = np.concatenate(encoded)
        at = (records["offset"].astype(np.int64)[owner] + starts)[:, None] + np.arange(size)
        window_of = np.full(len(tokens), -1, np.int32)
        position = np.zeros(len(tokens), np.uint8)
        window_of[at] = np.arange(len(owner), dtype=np.int32)[:, None]
        position[at] = np.arange(size, dtype=np.uint8)
        hashes = mix(mix(records["hash"][owner], self.seed) + starts.astype(np.uint64), 1)
        numbers = np.arange(len(owner), dtype=np.uint32) + np.uint32(self.state.windows)
        splits = records["split"][owner].astype(np.int8)
        near = self.state.background.offer(window_keys(mix(hashes, 2)), numbers)
        return Chunk(tokens, window_of, position, numbers, hashes, splits, near), rows

    def _activations(self, chunk: Chunk, rows: _Rows, first: bool, force: bool) -> None:
        stride = max(1, CHUNK_TOKENS // QUALITY_TOKENS)
        waiting: dict[str, list[_Part]] = {name: [] for name in self.coders}
        for batch in self.subject.activations(rows.tokens, self.hooks):
            index, valid = self._positions(batch, rows)
            flat = {hook: _select(state, valid) for hook, state in batch.states.items()}
            self._measure(flat, max(1, len(index) // QUALITY_FIRST) if first else stride)
            if first and not force:
                self._refuse_worthless()
            first = False
            for name, (coder, hook, _) in self.coders.items():
                waiting[name].append(_sparse(coder, flat[hook], index))
                if sum(len(part[0]) for part in waiting[name]) > ACTIVATIONS_AT_ONCE:
                    self._ingest(name, chunk, waiting[name])
        for name, parts in waiting.items():
            self._ingest(name, chunk, parts)

    def _ingest(self, name: str, chunk: Chunk, parts: list[_Part]) -> None:
        if len(self._adding) > len(self.coders):  # of the chunk before, at most
            self._adding.pop(0).result()
        self._adding.append(self._adder.submit(self._add, name, chunk, parts.copy()))
        parts.clear()

    def _add(self, name: str, chunk: Chunk, parts: list[_Part]) -> None:
        if parts:
            columns = zip(*parts, strict=True)
            tokens, latents, values = (np.concatenate(column) for column in columns)
            self.state.tallies[name].ingest(chunk, tokens, latents, values)

    def _catch_up(self) -> None:
        """Wait until all that was read is in the reservoirs."""
        while self._adding:
            self._adding.pop(0).result()

    def _positions(
        self, batch: Batch, rows: _Rows
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

    def _measure_transcoders(self, rows: _Rows, tokens: int) -> None:
        """The same of evenly spread rows, for coders that predict what the pass does not read."""
        apart = {n: a for n, a in self.coders.items() if a.target not in (None, a.hook)}
        if not apart:
            return
        hooks = sorted({h for a in apart.values() for h in (a.hook, a.target) if h})
        stride = max(1, len(rows.tokens) * self.geometry.content // tokens)
        some = rows.tokens[::stride]
        for batch in self.subject.activations(some, hooks):
            _, valid = self._positions(batch, _Rows(some, [0] * len(some)))
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


def _attach(subject: Subject, attached: Attached) -> Attached:
    """Find the tensor that a transcoder predicts, where only its checkpoint names it."""
    coder, hook, target = attached
    if target is None and coder.info.hook_out is not None:
        target = subject.hook_point(coder.info.hook_out)
    return Attached(coder, hook, target)


def _claims(coder: SparseCoder) -> dict[str, Any]:
    """What the checkpoint says of itself."""
    return {key: value for key, value in asdict(coder.info).items() if value is not None}


def _check(subject: Subject, coders: dict[str, Attached], examples: ExampleOptions) -> None:
    if not coders:
        raise AutointerpError("no coders to collect with; name one under subject.coders")
    if not 1 <= examples.window <= 255:
        raise AutointerpError(f"examples.window is {examples.window}; it must be from 1 to 255")
    if subject.context_length <= examples.window:
        raise AutointerpError(
            f"a context of {subject.context_length} tokens holds no window of {examples.window}"
            " and BOS; raise subject.context_length or lower examples.window"
        )
    for name, (coder, hook, target) in coders.items():
        for what, size, place in (("reads", coder.d_in, hook), ("writes", coder.d_out, target)):
            if place is not None and subject.width(place) != size:
                raise AutointerpError(
                    f"coder {name} {what} {size} numbers a token, but {place} has"
                    f" {subject.width(place)}; set the coder's hook"
                )


def _settings(
    subject: Subject,
    coders: dict[str, Attached],
    corpus: CorpusOptions,
    examples: ExampleOptions,
    seed: int,
) -> dict[str, Any]:
    """All that shapes a store. A directory is never continued under other settings."""
    return {
        "subject": subject.name,
        "revision": subject.revision,
        "dtype": str(subject.dtype),
        "context_length": subject.context_length,
        "bos": subject.bos,
        "corpus": {**asdict(corpus), "source": str(corpus.source)},
        "examples": {**asdict(examples), "splits": list(examples.splits)},
        "seed": seed,
        "coders": {
            name: {"hook": str(a.hook), "width": a.coder.d_sae, "weights": _fingerprint(a.coder)}
            for name, a in coders.items()
        },
    }


def _fingerprint(coder: SparseCoder) -> str:
    if coder.info.sha256:
        return coder.info.sha256
    digest = hashlib.blake2b(digest_size=8)
    for tensor in (coder.b_enc, coder.W_dec[:32]):
        digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise AutointerpError(
                f"the disk of {directory} is full; free some space and run again to continue"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise AutointerpError(
                f"cannot write to {directory}: {error.strerror}; choose another run.directory"
            ) from error
        raise
