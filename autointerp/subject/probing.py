"""Probe texts of many latents at once: asked for by coroutines, measured in full batches.

A subject reads a text once, whoever asks: what every latent of a coder does on it is kept,
and each caller gets its own latent's part.

A text's last digits depend on the texts that were in its batch: float32 activations differ by
about 1e-6 of their size. Activations are therefore rounded to 12 significant bits (off by
2.4e-4 of each at most), and two measurements are nearly always identical. They are not where a
value lies that close to the middle between two rounded ones, or to a threshold, or where two
latents lie that close at the edge of a top-k. A subject in bfloat16 or float16 differs by up to a
hundredth, and only what a cache has kept is identical.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autointerp.latents import AutointerpError, LatentId
from autointerp.subject.coders import SparseCoder
from autointerp.subject.gathering import Gatherer
from autointerp.subject.model import HookPoint, Subject
from autointerp.subject.outline import Outline
from autointerp.subject.probe_cache import DiskCache, Probe, Reading
from autointerp.subject.probe_worker import Measured, Prober, coder_identity
from autointerp.subject.recent import Recent

__all__ = ["Counts", "Measure", "Measurement", "ProbeError", "ProbeQueue"]

MEMORY = 2**28  # bytes of readings kept in memory
LOT = 512  # probes taken together at most

Measure = Callable[[Sequence[Probe]], Measured]


@dataclass
class Counts:
    """What became of the texts that were asked for.

    ``asked`` counts (text, coder) by caller. Each came from memory, joined one that was waited
    for already, came from disk, was refused, or was measured. ``measured`` and ``tokens`` count
    texts that went through a subject: once, however many coders read them in that pass.
    """

    asked: int = 0
    from_memory: int = 0
    joined: int = 0
    from_disk: int = 0
    refused: int = 0
    measured: int = 0
    tokens: int = 0
    forward_passes: int = 0


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


class _Answerer:
    """Answers lots of probes: from disk, else by having them measured. For any thread."""

    def __init__(self, measure: Measure, disk: DiskCache | None, counts: Counts, lock: Lock):
        self._measure, self._disk, self._counts, self._lock = measure, disk, counts, lock

    def __call__(self, lot: Sequence[Probe]) -> list[Reading | str]:
        known = {} if self._disk is None else self._disk.read(lot)
        missing = [probe for probe in lot if probe not in known]
        measured = self._measure(missing) if missing else Measured()
        if self._disk is not None and measured.readings:
            self._disk.write(measured.readings)
        self._count(len(known), measured)
        found: dict[Probe, Reading | str] = {**known, **measured.readings, **measured.refused}
        if len(found) < len(lot):
            raise RuntimeError("closed while measuring")  # nobody waits any more
        return [found[probe] for probe in lot]

    def _count(self, from_disk: int, measured: Measured) -> None:
        with self._lock:
            self._counts.from_disk += from_disk
            self._counts.refused += len(measured.refused)
            self._counts.measured += measured.texts
            self._counts.tokens += measured.tokens
            self._counts.forward_passes += measured.forward_passes


def _size(reading: Reading | str) -> int:
    return reading.size if isinstance(reading, Reading) else len(reading)


class ProbeQueue:
    """Measures texts for coroutines; use it as ``async with ProbeQueue(…) as queue``.

    What is waiting goes in together when a worker gets free.

    Args:
        subject: an outline of it, if ``workers`` are given; else all torch work is in one thread
            of this process, and the subject must not be used elsewhere meanwhile.
        coders: each coder by name with the hook point it reads; on the subject's device, unless
            ``workers`` are given.
        cache: an SQLite file to keep readings in, for later runs.
        identity: what tells the model's weights and tokenizer from others, a hash of the files
            for example; name, revision, type, BOS and context settings are added, and each
            coder's checkpoint and hook point.
        workers: who measures, each in a thread of its own.
    """

    def __init__(
        self,
        subject: Subject | Outline,
        coders: Mapping[str, tuple[SparseCoder, HookPoint]],
        cache: Path | None = None,
        *,
        identity: str = "",
        memory: int = MEMORY,
        workers: Sequence[Measure] = (),
    ) -> None:
        self.counts = Counts()
        self._subject, self._coders = subject, dict(coders)
        self._path, self._identity = cache, identity
        self._memory: Recent[Probe, Reading | str] = Recent(memory, _size)
        self._workers = workers
        self._closing = Event()
        self._gatherer: Gatherer[Probe, Reading | str] | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        disk = None if self._path is None else DiskCache(self._path, self._identities())
        if disk is not None:
            self._open.callback(disk.close)
        workers, lock = self._workers or [self._prober()], Lock()
        self._gatherer = Gatherer(
            [_Answerer(measure, disk, self.counts, lock) for measure in workers],
            "probes",
            lot=LOT,
            memory=self._memory,
        )
        self._open.push_async_callback(self._gatherer.aclose)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel what is waiting, let the batches under way end, and end the threads."""
        self._closing.set()
        await self._open.aclose()

    def _prober(self) -> Prober:
        if not isinstance(self._subject, Subject):
            raise RuntimeError("probing without workers needs the subject itself, not its outline")
        return Prober(self._subject, self._coders, self._closing)

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
        if self._gatherer is None or self._closing.is_set():
            raise RuntimeError("a ProbeQueue measures only inside its `async with`")
        if latent.coder not in self._coders:
            raise AutointerpError(f"no coder {latent.coder!r} (known: {', '.join(self._coders)})")
        width = self._coders[latent.coder][0].d_sae
        if not 0 <= latent.index < width:
            raise AutointerpError(f"{latent} is out of range; {latent.coder} has {width} latents")

    async def _readings(self, probes: Sequence[Probe]) -> dict[Probe, Reading | str]:
        assert self._gatherer is not None
        distinct = list(dict.fromkeys(probes))
        self.counts.asked += len(distinct)
        self.counts.from_memory += sum(probe in self._memory for probe in distinct)
        self.counts.joined += sum(map(self._gatherer.waits_for, distinct))
        return dict(zip(distinct, await self._gatherer.ask(distinct), strict=True))

    def _measurement(self, reading: Reading | str, latent: int) -> Measurement:
        assert isinstance(reading, Reading)
        vocabulary = self._subject.vocabulary
        tokens = [vocabulary[i] for i in reading.token_ids.tolist()]
        return Measurement(reading.token_ids, tokens, reading.of(latent))

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
