"""Harvests: one pass over a corpus leaves every latent's windows and statistics in a store."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from autointerp.examples.corpus import documents
from autointerp.examples.merging import absorb
from autointerp.examples.options import Attached, CorpusOptions, ExampleOptions, Progress
from autointerp.examples.state import HarvestState
from autointerp.examples.store import ExampleStore
from autointerp.examples.streaming import Pass
from autointerp.latents import AutointerpError
from autointerp.latents.shards import Shard
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import HookPoint, Subject


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
    shard: Shard | None = None,
) -> ExampleStore:
    """Read the corpus once and leave an :class:`ExampleStore` in ``directory``.

    Working memory depends on the number of latents and on what is kept of each, not on the
    number of tokens. A pass that was killed continues from its last checkpoint when called
    again with the same settings, and ends with the same store; a finished one is returned as
    it is. ``texts`` replaces the corpus's source. With a ``shard`` only its documents are read,
    of those that the whole corpus's limit of tokens leaves; the stores of all shards, merged in
    order, have the arrays of a pass over the corpus.

    Raises:
        AutointerpError: for a coder that does not fit its hook or explains less than nothing
            there (unless ``force``), an unusable corpus or directory, or other settings than
            those the directory was begun with.
    """
    attached = {name: _attach(subject, Attached(*value)) for name, value in coders.items()}
    _check(subject, attached, examples)
    settings = _settings(subject, attached, corpus, examples, seed)
    settings |= {"shard": str(shard)} if shard else {}
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
        harvest = Pass(subject, attached, corpus, examples, seed, state, shard)
        rest = source if shard else islice(source, state.log.documents, None)
        harvest.run(rest, progress, checkpoint_seconds, force)
        state.finish(harvest.report())
    return ExampleStore.open(directory)


def merge(stores: Sequence[ExampleStore], directory: Path | str) -> ExampleStore:
    """Write the store of the union of stores that were collected over different documents.

    It equals one harvest of all the documents in turn: of the shards of a corpus in every array,
    of others but for the last digits of activations.

    Raises:
        AutointerpError: if there are none, or they differ in anything but their documents.
    """
    if not stores:
        raise AutointerpError("nothing to merge: no stores were given")
    directory = Path(directory)
    settings = {k: v for k, v in stores[0].header["settings"].items() if k != "shard"}
    for store in stores[1:]:
        ignored = {"corpus", "shard"}
        HarvestState.compare(store.directory, store.header["settings"], settings, ignored)
    with _disk_errors(directory):
        state = HarvestState.resume(
            directory,
            settings,
            {e["name"]: (e["width"], e["hook"], e["claims"]) for e in stores[0].header["coders"]},
            stores[0].vocabulary,
        )
        for store in stores:
            absorb(state, store)
        state.finish(_reported([store.header["report"] for store in stores]))
    return ExampleStore.open(directory)


def _reported(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What merged stores tell of how they were collected: side by side."""
    told = [report for report in reports if report]
    if not told:
        return {}
    speed = sum(report["tokens_per_second"] for report in told)
    return {
        "tokens_per_second": speed,
        "peak_memory_bytes": max(report["peak_memory_bytes"] for report in told),
    }


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
