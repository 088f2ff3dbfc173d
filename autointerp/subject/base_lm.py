"""Log probabilities of texts under a local language model, for many latents at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from autointerp.latents import AutointerpError
from autointerp.subject.gathering import Answer, Gatherer
from autointerp.subject.model import Subject
from autointerp.subject.recent import Recent

Continuation = tuple[str, str]  # what stands before a text, and the text

CPU_BATCH = 1024  # tokens: what a larger batch computes does not stay in a processor's cache
MOST_LOGITS = 2**27  # numbers in the output of one forward pass
SHARED = 8  # texts after the same beginning, for which it is read once
LOT = 1024  # continuations taken together at most
MEMORY = 2**16  # log probabilities kept


class _Read(NamedTuple):
    """A beginning that the model has read: its keys and values, and what it expects next."""

    cache: Any
    last: torch.Tensor  # [1, 1, vocabulary]


class _Row(NamedTuple):
    """A continuation as tokens."""

    place: int
    before: NDArray[np.int32]
    text: NDArray[np.int32]

    def shown(self, read: _Read | None) -> NDArray[np.int32]:
        """What the model has yet to read."""
        return self.text if read else np.concatenate([self.before, self.text])


class _Batch(NamedTuple):
    """Rows for one forward pass, after a beginning that they share if there is one."""

    rows: Sequence[_Row]
    read: _Read | None


class LogprobQueue:
    """Has the likelihood of texts measured for coroutines; close with :meth:`aclose`.

    ``workers`` each measure continuations as :meth:`LocalLM.measure` does, in a thread each.
    """

    def __init__(self, workers: Sequence[Answer[Continuation, float | str]]) -> None:
        self._gatherer: Gatherer[Continuation, float | str] = Gatherer(
            workers, "base_lm", lot=LOT, memory=Recent(MEMORY)
        )

    async def logprobs(self, continuations: Sequence[Continuation]) -> list[float | str]:
        """log p(text | before) in nats of each (before, text), or why there is none."""
        return await self._gatherer.ask(continuations)

    async def aclose(self) -> None:
        """Let the lots under way end, and end the threads."""
        await self._gatherer.aclose()


class LocalLM(LogprobQueue):
    """Measures how likely texts are, in one thread; close with :meth:`aclose`.

    What stands before a text and the text itself are tokenised apart, so that a text has the
    same tokens whatever precedes it. Rows of different lengths share a batch; that changes the
    last digits of a figure, about 1e-6 of it in float32. A beginning that many texts have is read
    once.
    """

    def __init__(self, subject: Subject) -> None:
        super().__init__([self.measure])
        self._subject = subject

    def measure(self, continuations: Sequence[Continuation]) -> list[float | str]:
        """:meth:`logprobs` in this thread."""
        found: list[float | str] = [_NOT_UNICODE] * len(continuations)
        rows = []
        for row in self._rows(continuations):
            reason = self._refusal(row)
            if reason is None:
                rows.append(row)
            else:
                found[row.place] = reason
        for batch in self._batches(rows):
            for row, nats in zip(batch.rows, self._fitting(batch), strict=True):
                found[row.place] = nats if math.isfinite(nats) else _NOT_FINITE
        return found

    def _rows(self, continuations: Sequence[Continuation]) -> Iterator[_Row]:
        """Each as tokens, BOS first where there is one; none for what no tokenizer reads."""
        fine = [i for i, pair in enumerate(continuations) if all(map(_is_unicode, pair))]
        distinct = list(dict.fromkeys(part for i in fine for part in continuations[i]))
        encoded = dict(zip(distinct, self._subject.encode_texts(distinct), strict=True))
        bos = self._subject.bos_id
        head = np.array([] if bos is None else [bos], np.int32)
        for place in fine:
            before, text = (encoded[part] for part in continuations[place])
            yield _Row(place, np.concatenate([head, before]), text)

    def _refusal(self, row: _Row) -> str | None:
        length, limit = len(row.before) + len(row.text), self._subject.context_length
        if not len(row.text):
            return "the text has no tokens"
        if not len(row.before):
            return "nothing stands before the text: its first token has no probability"
        if length > limit:
            return f"prompt and text have {length} tokens, and {limit} fit the base model's context"
        return None

    def _batches(self, rows: Sequence[_Row]) -> Iterator[_Batch]:
        """Rows in parts that fit one forward pass: those that begin alike, then all others."""
        alike: dict[bytes, list[_Row]] = {}
        for row in rows:
            alike.setdefault(row.before.tobytes(), []).append(row)
        others = [row for group in alike.values() if len(group) < SHARED for row in group]
        for group in alike.values():
            if len(group) >= SHARED:
                read = self._read(group[0].before)
                yield from self._parts(group, read)
        yield from self._parts(others, None)

    def _read(self, before: NDArray[np.int32]) -> _Read | None:
        """What the model keeps of a beginning, to go on from; None if it keeps no plain cache."""
        from transformers import DynamicCache  # a second of imports

        ids = torch.from_numpy(before.astype(np.int64))[None].to(self._subject.device)
        with self._subject.lock, torch.inference_mode():
            read = self._subject.model(input_ids=ids, use_cache=True)
        cache = getattr(read, "past_key_values", None)
        return _Read(cache, read.logits[:, -1:]) if type(cache) is DynamicCache else None

    def _parts(self, rows: Sequence[_Row], read: _Read | None) -> Iterator[_Batch]:
        """Rows, longest first, as many as fit."""
        subject = self._subject
        tokens = CPU_BATCH if subject.device.type == "cpu" else subject.batch_tokens
        tokens = min(tokens, MOST_LOGITS // len(subject.vocabulary))
        rows = sorted(rows, key=lambda row: -len(row.shown(read)))
        start = 0
        while start < len(rows):
            size = max(1, tokens // len(rows[start].shown(read)))
            yield _Batch(rows[start : start + size], read)
            start += size

    def _fitting(self, batch: _Batch) -> list[float]:
        """Nats of every row; a batch that does not fit the device's memory is read in halves."""
        try:
            return self._forward(batch)
        except torch.OutOfMemoryError as error:
            half = len(batch.rows) // 2
            if not half:
                raise AutointerpError(
                    f"one text does not fit on {self._subject.device} beside the base model"
                ) from error
        halves = batch.rows[:half], batch.rows[half:]
        return [nats for rows in halves for nats in self._fitting(_Batch(rows, batch.read))]

    def _forward(self, batch: _Batch) -> list[float]:
        """Nats of every row. Padding is on the right, where a causal model's real tokens cannot
        see it, so no mask is needed."""
        shown = [torch.from_numpy(row.shown(batch.read)) for row in batch.rows]
        ids = pad_sequence(shown, batch_first=True).long().to(self._subject.device)
        ends = torch.tensor([len(tokens) for tokens in shown])[:, None]
        begins = ends - torch.tensor([[len(row.text)] for row in batch.rows])
        places = torch.arange(ids.shape[1])
        wanted = (places >= begins) & (places < ends)
        with self._subject.lock, torch.inference_mode():
            logits = self._logits(ids, batch.read)
            wanted = wanted[:, ids.shape[1] - logits.shape[1] :].to(logits.device)
            before = logits[wanted].float()  # [texts' tokens, vocabulary]
            truth = ids[:, ids.shape[1] - logits.shape[1] :].to(logits.device)[wanted]
            of_tokens = before.gather(1, truth[:, None])[:, 0] - before.logsumexp(1)
        owners = torch.nonzero(wanted)[:, 0].cpu().numpy()
        nats = np.bincount(owners, of_tokens.double().cpu().numpy(), minlength=len(shown))
        return [float(value) for value in nats]

    def _logits(self, ids: torch.Tensor, read: _Read | None) -> torch.Tensor:
        """What precedes each of the ids predicts it by; without a beginning, of all but the
        first."""
        model: Any = self._subject.model
        if read is None:
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
            return logits[:, :-1]
        cache = copy.deepcopy(read.cache)  # the model writes into it
        cache.batch_repeat_interleave(len(ids))
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
        return torch.cat([read.last.expand(len(ids), -1, -1), logits[:, :-1]], dim=1)


_NOT_FINITE = "the model's log probabilities of the text are not finite"
_NOT_UNICODE = "the text holds a lone surrogate, which no tokenizer reads"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
