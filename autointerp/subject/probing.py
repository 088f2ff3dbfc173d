"""Probe texts of many latents at once: asked for by coroutines, measured in full batches.

The subject reads a text once, whoever asks: what every latent of a coder does on it is kept,
and each caller gets its own latent's part.

A text's last digits depend on the texts that were in its batch: float32 activations differ by
about 1e-6 of their size. Activations are therefore rounded to 12 significant bits (off by
2.4e-4 of each at most), and two measurements are nearly always identical. They are not where a
value lies that close to the middle between two rounded ones, or to a threshold, or where two
latents lie that close at the edge of a top-k. A subject in bfloat16 or float16 differs by up to a
hundredth, and only what a cache has kept is identical.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.coders import SparseCoder
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.probe_cache import DiskCache, Probe, Reading, Recent
from autointerp.subject.probe_worker import Counts, Worker, coder_identity

__all__ = ["Counts", "Measurement", "ProbeError", "ProbeQueue"]

MEMORY = 2**28  # bytes of readings kept in memory
LOT = 512  # probes taken together at most


class ProbeError(AutointerpError):
    """Texts that cannot be measured; ``reasons`` has the reason for each."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        more = f" (and {len(reasons) - 1} more texts)" if len(reasons) > 1 else ""
        super().__init__(next(iter(self.reasons.values())) + more)


@dataclass(frozen=True, eq=False, slots=True)
class Measurement:
    """One latent on one text; positions the subject leaves out have activation 0."""

    token_ids: NDArray[np.int32]  # [n]
    tokens: list[str]
    activations: NDArray[np.float32]  # [n]


class ProbeQueue:
    """Measures texts for coroutines; use it as ``async with ProbeQueue(…) as queue``.

    All torch work is in one thread. It takes whatever is waiting when it gets free. The subject
    must not be used elsewhere meanwhile.

    Args:
        coders: each coder by name, on the subject's device, with the hook point it reads.
        cache: an SQLite file to keep readings in, for later runs.
        identity: what tells the model's weights and tokenizer from others, a hash of the files
            for example; name, revision, type, BOS and context settings are added, and each
            coder's checkpoint and hook point.
    """

    def __init__(
        self,
        subject: Subject,
        coders: Mapping[str, tuple[SparseCoder, HookPoint]],
        cache: Path | None = None,
        *,
        identity: str = "",
        memory: int = MEMORY,
    ) -> None:
        self.counts = Counts()
        self._subject, self._coders = subject, dict(coders)
        self._path, self._identity = cache, identity
        self._recent = Recent(memory)
        self._waiting: dict[Probe, asyncio.Future[Reading | str]] = {}
        self._queued: deque[Probe] = deque()
        self._asked = asyncio.Event()
        self._closing = Event()
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        disk = None if self._path is None else DiskCache(self._path, self._identities())
        worker = Worker(self._subject, self._coders, disk, self.counts, self._closing)
        self._serving = asyncio.create_task(self._serve(worker, disk))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is waiting, let the batch under way end, and end the thread."""
        assert self._serving is not None
        self._closing.set()
        self._asked.set()
        for future in self._waiting.values():
            future.cancel()
        await self._serving

    async def measure(self, texts: Sequence[str], latent: LatentId) -> list[Measurement]:
        """Activations of ``latent`` on each text, in the order given.

        Raises:
            ProbeError: if texts cannot be encoded, have no token that counts, or do not fit
                the context. The others are measured, and asking for them again costs nothing.
            AutointerpError: if there is no such latent, or measuring failed.
        """
        self._check(latent)
        probes = [Probe(latent.coder, text) for text in texts]
        found = await self._readings(probes)
        if refused := {p.text: why for p, why in found.items() if isinstance(why, str)}:
            raise ProbeError(refused)
        return [self._measurement(found[probe], latent.index) for probe in probes]

    def _check(self, latent: LatentId) -> None:
        if self._serving is None or self._closing.is_set():
            raise RuntimeError("a ProbeQueue measures only inside its `async with`")
        if latent.coder not in self._coders:
            raise AutointerpError(f"no coder {latent.coder!r} (known: {', '.join(self._coders)})")
        width = self._coders[latent.coder][0].d_sae
        if not 0 <= latent.index < width:
            raise AutointerpError(f"{latent} is out of range; {latent.coder} has {width} latents")

    async def _readings(self, probes: Sequence[Probe]) -> dict[Probe, Reading | str]:
        distinct = dict.fromkeys(probes)
        self.counts.asked += len(distinct)
        found: dict[Probe, Reading | str] = {}
        waiting = {}
        for probe in distinct:
            if (reading := self._recent.get(probe)) is not None:
                found[probe] = reading
            else:
                waiting[probe] = self._submit(probe)
        self.counts.from_memory += len(found)
        if waiting:  # `wait` leaves the futures alone when this caller is cancelled
            await asyncio.wait(waiting.values())
        return found | {probe: future.result() for probe, future in waiting.items()}

    def _submit(self, probe: Probe) -> asyncio.Future[Reading | str]:
        if probe in self._waiting:
            self.counts.joined += 1
        else:
            self._waiting[probe] = asyncio.get_running_loop().create_future()
            self._queued.append(probe)
            self._asked.set()
        return self._waiting[probe]

    def _measurement(self, reading: Reading | str, latent: int) -> Measurement:
        assert isinstance(reading, Reading)
        vocabulary = self._subject.vocabulary
        tokens = [vocabulary[i] for i in reading.token_ids.tolist()]
        return Measurement(reading.token_ids, tokens, reading.of(latent))

    async def _serve(self, worker: Worker, disk: DiskCache | None) -> None:
        loop = asyncio.get_running_loop()
        with closing(disk) if disk else nullcontext(), ThreadPoolExecutor(1, "probes") as thread:
            while not self._closing.is_set():
                await self._asked.wait()
                self._asked.clear()
                lot = self._next_lot()
                while lot:
                    answer = loop.run_in_executor(thread, worker.answer, lot)
                    await asyncio.wait([answer])
                    self._deliver(lot, answer)
                    lot = self._next_lot()

    def _next_lot(self) -> list[Probe]:
        size = 0 if self._closing.is_set() else min(LOT, len(self._queued))
        return [self._queued.popleft() for _ in range(size)]

    def _deliver(
        self, lot: Sequence[Probe], answer: asyncio.Future[dict[Probe, Reading | str]]
    ) -> None:
        error = answer.exception()
        found = {} if error else answer.result()
        for probe in lot:
            future = self._waiting.pop(probe)
            if isinstance(reading := found.get(probe), Reading):
                self._recent.put(probe, reading)
            if future.done():  # cancelled by closing
                continue
            if error is not None:
                future.set_exception(error)
                future.exception()  # asyncio complains of one that nobody is left to hear
            elif reading is not None:
                future.set_result(reading)

    def _identities(self) -> dict[str, str]:
        subject = self._subject
        reads = (
            f"{self._identity}\0{subject.name}\0{subject.revision}\0{subject.dtype}"
            f"\0{subject.bos} {subject.bos_id} {subject.context_length}"
        )
        return {
            name: f"{reads}\0{hook}\0{coder_identity(coder)}"
            for name, (coder, hook) in self._coders.items()
        }
