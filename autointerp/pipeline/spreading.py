"""Collecting and preparing by several workers, with the same outcome as by one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from autointerp.examples import harvest
from autointerp.examples.contrast import Contrasts, Negatives
from autointerp.examples.documents import token_dtype
from autointerp.examples.store import MARKER, ExampleStore
from autointerp.latents import LatentId
from autointerp.latents.shards import Shard
from autointerp.pipeline.workshop import Work, Workshop
from autointerp.subject.gathering import Gatherer

PARTS = "examples.parts"  # a run's folder of what its workers have collected so far
LOOKED = 1.0  # seconds between two looks at how far the workers are

Progress = Callable[[int, int], None]


async def collect_by_workers(
    workshop: Workshop,
    run: Path,
    examples: Path,
    own: Shard | None,
    force: bool,
    progress: Callable[[int], None],
) -> ExampleStore:
    """Have each worker collect a part of the corpus, and merge the parts.

    The store has the arrays of one pass over all of the corpus. A part that was begun, by a
    worker that is gone or by an earlier process, is continued from its last checkpoint.

    Args:
        run: the run's directory, which all workers see.
        examples: where the store goes. What was begun there is finished there, by one worker.
        own: only this shard of the corpus, by one worker.
        force: see ``harvest.collect``.
        progress: is told how many tokens were read in all.

    Raises:
        AutointerpError: as ``harvest.collect`` does.
    """
    if own is not None or _is_begun(examples):
        await _collect(workshop, {own: examples}, force, progress)
        return ExampleStore.open(examples)
    parts = _parts(run / PARTS, len(workshop.workers("collect", force)))
    await _collect(workshop, parts, force, progress)
    store = harvest.merge([ExampleStore.open(folder) for folder in parts.values()], examples)
    shutil.rmtree(run / PARTS)
    return store


def _is_begun(examples: Path) -> bool:
    """Whether a pass has left a store, or a checkpoint; merging leaves no checkpoints."""
    return (examples / MARKER).exists() or any((examples / "partial").glob("state-*"))


def _parts(folder: Path, workers: int) -> dict[Shard | None, Path]:
    """A folder for each shard, in order: of the division that was begun, else one a worker."""
    begun = sorted(Shard.parse(path.name) for path in folder.glob("*-of-*"))
    shards = begun[0].all if begun else Shard(workers, 1).all
    return {shard: folder / shard.folder for shard in shards}


async def _collect(
    workshop: Workshop,
    parts: Mapping[Shard | None, Path],
    force: bool,
    progress: Callable[[int], None],
) -> None:
    """Have the workers collect shards, each into its folder."""
    vocabulary = len(workshop.subject.vocabulary)
    for folder in parts.values():
        folder.parent.mkdir(parents=True, exist_ok=True)
    gatherer: Gatherer[Shard | None, None] = Gatherer(
        [_one_by_one(work, parts) for work in workshop.workers("collect", force)], "collect", lot=1
    )
    watching = asyncio.create_task(_watch(list(parts.values()), vocabulary, progress))
    try:
        with _abandoned_if_left(workshop):
            await gatherer.ask(list(parts))
    finally:
        watching.cancel()
        await gatherer.aclose()


def _one_by_one(
    work: Work, parts: Mapping[Shard | None, Path]
) -> Callable[[Sequence[Shard | None]], list[None]]:
    return lambda shards: [work((parts[shard].resolve(), shard)) for shard in shards]


@contextmanager
def _abandoned_if_left(workshop: Workshop) -> Iterator[None]:
    """Do not wait for workers that are at something long when what they do is no longer wanted."""
    try:
        yield
    except BaseException:
        workshop.abandon()
        raise


async def _watch(folders: Sequence[Path], vocabulary: int, progress: Callable[[int], None]) -> None:
    """Tell how many tokens the workers have written."""
    size = token_dtype(vocabulary).itemsize
    while True:
        files = [folder / "tokens.bin" for folder in folders]
        progress(sum(file.stat().st_size for file in files if file.exists()) // size)
        await asyncio.sleep(LOOKED)


async def prepare_by_workers(
    workshop: Workshop,
    store: ExampleStore,
    prepared: Contrasts,
    chunks: Sequence[Sequence[LatentId]],
    progress: Progress,
) -> None:
    """Have the workers find the hard negatives of these chunks of latents, and save them here.

    Each chunk's are those that ``prepare`` finds, which reads a chunk at a time. An interrupted
    call keeps what was finished. ``progress`` is told how many latents of how many are done.
    """
    workers = workshop.workers("negatives", store.directory.resolve())
    gatherer: Gatherer[tuple[LatentId, ...], Negatives] = Gatherer(
        [_chunk_by_chunk(work) for work in workers], "prepare", lot=1
    )
    done, total = 0, sum(map(len, chunks))

    async def save(chunk: Sequence[LatentId]) -> None:
        nonlocal done
        (found,) = await gatherer.ask([tuple(chunk)])
        prepared.add(found)
        done += len(chunk)
        progress(done, total)

    try:
        with _abandoned_if_left(workshop):
            async with asyncio.TaskGroup() as group:
                for chunk in chunks:
                    group.create_task(save(chunk))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        await gatherer.aclose()


def _chunk_by_chunk(work: Work) -> Callable[[Sequence[tuple[LatentId, ...]]], list[Negatives]]:
    return lambda chunks: [work(chunk) for chunk in chunks]
