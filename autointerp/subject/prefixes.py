"""Prompts as steering needs them: what precedes the last token read once, clean, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from autointerp.subject.model import Subject
from autointerp.subject.probe_worker import CPU_BATCH

Prompt = bytes  # token ids as int32, without BOS: quick to compare
T = TypeVar("T")

MEMORY = {"cpu": 2**30, "cuda": 2**32}  # bytes of prefixes kept


class _Layer(NamedTuple):
    """The shape of a layer's part in the columns of a prefix, and where it belongs."""

    heads: int
    key_size: int
    value_size: int
    device: torch.device

    @property
    def columns(self) -> tuple[int, int]:
        return self.heads * self.key_size, self.heads * self.value_size


@dataclass(frozen=True, eq=False)
class Prefix:
    """A prompt of which all but the last token has been read."""

    last: int  # token id
    cache: Tensor  # keys and values of what precedes, all layers' side by side: [length, columns]

    @property
    def length(self) -> int:
        """How many tokens precede the last, BOS included: the last one's position."""
        return len(self.cache)


class Kept(Generic[T]):
    """What is known of the latest prompts, within so many bytes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._kept: OrderedDict[Prompt, tuple[T, int]] = OrderedDict()

    def among(self, prompts: Sequence[Prompt]) -> dict[Prompt, T]:
        """What is known of those prompts that are known."""
        found = {}
        for prompt in dict.fromkeys(prompts):
            if prompt in self._kept:
                self._kept.move_to_end(prompt)
                found[prompt] = self._kept[prompt][0]
        return found

    def put(self, prompt: Prompt, value: T, size: int) -> None:
        """Keep something of ``size`` bytes; the oldest go where there is no room."""
        self._kept[prompt] = value, size
        self._left -= size
        while self._left < 0 and len(self._kept) > 1:
            self._left += self._kept.popitem(last=False)[1][1]


class Prefixes:
    """Reads prompts, and keeps what was read of the latest."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._kept: Kept[Prefix] = Kept(MEMORY.get(subject.device.type, MEMORY["cuda"]))
        self._layers: list[_Layer] = []

    def read(self, prompts: Sequence[Prompt]) -> dict[Prompt, Prefix]:
        """The prefix of each prompt."""
        found = self._kept.among(prompts)
        for prompt, prefix in self._run([p for p in dict.fromkeys(prompts) if p not in found]):
            found[prompt] = prefix
            self._kept.put(prompt, prefix, prefix.cache.nbytes)
        return found

    def cache(self, prefixes: Sequence[Prefix]) -> DynamicCache:
        """The prefixes' keys and values as a cache of one batch, padded on the right."""
        cache = DynamicCache()
        read = [prefix.cache for prefix in prefixes if prefix.length]
        if not read:
            return cache
        parts = [prefix.cache if prefix.length else read[0][:0] for prefix in prefixes]
        columns = pad_sequence(parts, batch_first=True)
        sizes = [n for layer in self._layers for n in layer.columns]
        of_layers = torch.split(columns, sizes, dim=2)
        for i, layer in enumerate(self._layers):
            keys, values = (
                part.view(*part.shape[:2], layer.heads, -1).transpose(1, 2).to(layer.device)
                for part in of_layers[2 * i : 2 * i + 2]
            )
            cache.update(keys, values, i)
        return cache

    def _run(self, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Prefix]]:
        """Read prompts, longest first, in batches. Padding is on the right, where real tokens
        cannot see it."""
        bos = [] if self._subject.bos_id is None else [self._subject.bos_id]
        rows = {p: [*bos, *np.frombuffer(p, np.int32).tolist()] for p in prompts}
        order = sorted(prompts, key=lambda prompt: -len(rows[prompt]))
        most = self._subject.batch_tokens
        if self._subject.device.type == "cpu":
            most = min(most, CPU_BATCH)
        while order:
            longest = len(rows[order[0]]) - 1
            chosen = order[: max(1, most // max(1, longest))]
            order = order[len(chosen) :]
            ids = [torch.tensor(rows[prompt][:-1], dtype=torch.long) for prompt in chosen]
            columns = self._columns(pad_sequence(ids, batch_first=True)) if longest else None
            for i, prompt in enumerate(chosen):
                length = len(rows[prompt]) - 1
                own = torch.empty(0, 0) if columns is None else columns[i, :length].clone()
                yield prompt, Prefix(rows[prompt][-1], own)

    def _columns(self, ids: Tensor) -> Tensor:
        """Keys and values of all layers side by side, of ids [b, t]: [b, t, columns]."""
        cache = DynamicCache()
        subject = self._subject
        read: Callable[..., object] = subject.model.get_decoder()
        with subject.lock, torch.inference_mode():
            read(input_ids=ids.to(subject.device), past_key_values=cache, use_cache=True)
        parts, self._layers = [], []
        for layer in cache.layers:
            keys, values = layer.keys, layer.values  # [b, heads, t, size]
            shape = _Layer(keys.shape[1], keys.shape[3], values.shape[3], keys.device)
            self._layers.append(shape)
            parts += [x.transpose(1, 2).flatten(2).to(subject.device) for x in (keys, values)]
        return torch.cat(parts, dim=2)
