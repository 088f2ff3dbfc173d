"""Waves: requests that wait for one another, to go out together as batch files.

What a wave brings is in the journal before anyone who waits for it has it. Which batch holds which
requests is written down before the batch is handed over (``journal_batches``).
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice

from autointerp.latents import AutointerpError
from autointerp.llm.batches import Full, Result, Unreachable, read_line, write_line
from autointerp.llm.client import Usage
from autointerp.llm.depot import Depot
from autointerp.llm.journal_batches import Batch
from autointerp.llm.pricing import priced
from autointerp.llm.queueing import Queue
from autointerp.llm.transport import Answer, Refusal, Route
from autointerp.llm.wave_files import Question, WaveFile

AT_ONCE = 1000  # lines of a result that are journaled together
LONGEST_WAIT = 3600.0  # seconds before a batch that was refused is offered again
MEGA = 1_000_000

Futures = Mapping[str, asyncio.Future[Answer]]
_log = logging.getLogger(__name__)


class Waves:
    """Collects the requests to one model, and sends them in batches."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._limits = depot.limits
        self._filling: dict[Route, WaveFile] = {}
        self._queue = Queue(depot.limits.enqueued_tokens)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._came = 0

    def join(
        self, key: str, endpoint: Route, body: bytes, estimate: Usage
    ) -> asyncio.Future[Answer]:
        """Have a request go with the next wave. Its answer is there, and journaled, once the wave
        is back; else a Fault if it may be had from another wave, or a Refusal.

        Raises:
            AutointerpError: if its line cannot be written.
        """
        line = write_line(key, endpoint, body)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._add(endpoint, Question(key, len(line), estimate, future), line)
        except OSError as error:
            raise _cannot_write(error) from error
        return future

    def _add(self, endpoint: Route, question: Question, line: bytes) -> None:
        wave = self._filling.get(endpoint)
        if wave is not None and not self._fits(wave, question):
            self._send_off(endpoint)
            wave = None
        if wave is None:
            wave = self._filling[endpoint] = WaveFile(self._depot.folder, endpoint)
        wave.add(question, line)
        self._came += 1
        if len(wave) == self._limits.requests:
            self._send_off(endpoint)
        elif self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._send_when_still())

    def _fits(self, wave: WaveFile, question: Question) -> bool:
        tokens = wave.tokens + question.estimate.prompt_tokens
        most = self._limits.enqueued_tokens
        small = wave.bytes + question.size <= self._limits.megabytes * MEGA
        return small and (most is None or tokens <= most)

    async def _send_when_still(self) -> None:
        """Send what there is once nothing more comes: everyone who is to ask waits already.

        While the event loop is at work, those who would ask cannot; then its timers are late.
        """
        idle = self._limits.idle_seconds
        while self._filling:
            came, due = self._came, time.monotonic() + idle
            await asyncio.sleep(idle)
            if came == self._came and time.monotonic() < due + idle / 2:
                for endpoint in list(self._filling):
                    self._send_off(endpoint)

    def _send_off(self, endpoint: Route) -> None:
        wave = self._filling.pop(endpoint)
        wave.close()
        self._start(wave)

    def _start(self, wave: WaveFile) -> None:
        task = asyncio.create_task(self._carry(wave))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, wave))

    def _finished(self, task: asyncio.Task[None], wave: WaveFile) -> None:
        """Let those who still wait have what went wrong."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        wave.remove()
        told = _cannot_write(error) if isinstance(error, OSError) else error
        for question in wave.questions:
            if not question.answer.done():
                question.answer.set_exception(told)

    async def _carry(self, wave: WaveFile) -> None:
        """Send a wave until it is taken; one that is too large by itself goes in halves."""
        refused = 0
        while True:
            await self._queue.enter(wave.tokens)
            try:
                await self._send(wave)
                return wave.remove()
            except Full as full:
                alone = self._queue.batches == 1
                _log.warning("%s; %d requests wait", full, len(wave))
            finally:
                self._queue.leave(wave.tokens)
            wait = min(self._limits.poll_seconds * 2.0**refused, LONGEST_WAIT)
            refused += 1
            await self._queue.left(wait)
            if alone and refused > 1 and len(wave) > 1:
                return self._halve(wave)

    def _halve(self, wave: WaveFile) -> None:
        for half in wave.halves():
            self._start(half)

    async def _send(self, wave: WaveFile) -> None:
        """Hand a wave over as one batch, and take in what it brings."""
        depot, waiting = self._depot, {q.key: q.answer for q in wave.questions}
        batch = await depot.book.plan(uuid.uuid4().hex, wave.endpoint, list(waiting))
        numbers = [depot.journal.intend(q.key, q.estimate) for q in wave.questions]
        intents = dict(zip(waiting, await asyncio.gather(*numbers), strict=True))
        try:
            name = await depot.carrier.submit(batch, wave.path)
            await depot.book.named(batch.id, name)
            await self._settle(batch, name, intents, waiting)
        except Unreachable:  # the batch may be under way: the next start looks for it
            raise
        except (Full, Refusal):
            await self._strike_out(batch, intents.values())
            raise

    async def _settle(
        self, batch: Batch, name: str, intents: dict[str, int], waiting: Futures
    ) -> None:
        """Wait for a batch, journal its answers, and let those who wait have theirs.

        They have them last of all: with its last answer a run may end at once.
        """
        depot = self._depot
        size = len(intents)
        depot.afloat.note(batch.id, size)
        try:
            seen = partial(depot.afloat.note, batch.id, size)
            ended = await depot.carrier.ended(batch, name, depot.folder, seen)
        finally:
            depot.afloat.ashore(batch.id)
        results: dict[str, Result] = {}
        for file in ended.files:
            with file.open("rb") as lines:
                while block := list(islice(lines, AT_ONCE)):
                    await asyncio.gather(*(self._take(line, intents, results) for line in block))
            file.unlink()
        await self._strike_out(batch, intents.values())
        for key, future in waiting.items():
            _tell(future, results.get(key, ended.others))

    async def _take(self, line: bytes, intents: dict[str, int], results: dict[str, Result]) -> None:
        """Journal what a line says of a request, unless another has."""
        depot, read = self._depot, read_line(line, self._depot.carrier.sort)
        intent = intents.pop(read[0], None) if read else None
        if read is None or intent is None:
            return
        key, result = read
        if isinstance(result, Answer):
            answer = priced(depot.prices, result)
            result = await depot.journal.record(key, intent, depot.model, answer)
        elif isinstance(result, Refusal) or not result.billed:
            await depot.journal.forgive(intent)
        results[key] = result

    async def _strike_out(self, batch: Batch, intents: Iterable[int]) -> None:
        """Nothing more comes of these requests in this batch, and nobody billed them."""
        await asyncio.gather(*map(self._depot.journal.forgive, intents))
        await self._depot.book.close(batch.id)

    async def recover(self) -> None:
        """Take in what earlier starts of the run have sent: wait until all of it is back.

        Raises:
            Refusal: if it cannot be found out what became of it.
        """
        batches = await self._depot.book.open()
        for file in self._depot.folder.glob("wave-*.jsonl"):
            file.unlink()
        await asyncio.gather(*map(self._bring_home, batches))

    async def _bring_home(self, batch: Batch) -> None:
        depot = self._depot
        intents = await depot.book.intents(batch)
        name = batch.name or await depot.carrier.find(batch)
        if name is None:
            return await self._strike_out(batch, intents.values())
        _log.warning("waiting for batch %s, which has %d requests of this run", name, len(intents))
        try:
            await self._settle(batch, name, intents, {})
        except Full:
            await self._strike_out(batch, intents.values())

    async def close(self) -> None:
        """Stop waiting; what is under way stays under way, and is looked for at the next start."""
        tasks = [*self._tasks, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for wave in self._filling.values():
            wave.remove()
        await self._depot.carrier.close()


def _cannot_write(error: OSError) -> AutointerpError:
    where = f" {error.filename}" if error.filename else ""
    return AutointerpError(
        f"cannot write a batch file{where}: {error.strerror}; run again to go on"
    )


def _tell(future: asyncio.Future[Answer], result: Result) -> None:
    if future.done():
        return
    if isinstance(result, Answer):
        future.set_result(result)
    else:
        future.set_exception(result)
