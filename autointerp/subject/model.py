"""The language model under study: loading, hook points, and activations in few, full batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock, local
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.latents import AutointerpError
from autointerp.subject.modules import Modules
from autointerp.subject.outline import Outline

Forward = Callable[[torch.Tensor], dict["HookPoint", torch.Tensor]]
CPU_TOKENS = 2048  # what more of them need leaves a CPU's caches
READERS = 4  # batches read at once on a CPU, at most
Side = Literal["input", "output"]
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class HookPoint:
    """The input or the output of one module, by the module's full path."""

    module: str
    side: Side = "output"

    def __str__(self) -> str:
        return f"{self.module}.{self.side}"


class Batch(NamedTuple):
    """Rows that went through the subject together.

    ``states[hook]`` is [b, t, d] with t the longest row; what lies beyond a row's length is
    padding. Position i belongs to the row's token i: BOS is not among the positions.
    """

    rows: list[int]  # indices into the rows given
    lengths: list[int]
    states: dict[HookPoint, torch.Tensor]


class _StopForward(BaseException):  # so that no `except Exception` on the way swallows it
    """Ends a forward pass once every hook has seen its tensor."""


class Subject(Outline):
    """A loaded causal language model and its tokenizer.

    ``lock`` is held during a forward pass: hooks of one thread must not meet another's.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None = None,
        context_length: int = 256,
        batch_tokens: int = 8192,
        bos: Literal["skip", "keep"] = "skip",
    ) -> None:
        limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        super().__init__(
            tokenizer,
            name=name,
            revision=revision,
            dtype=model.dtype,
            context_length=min(context_length, limit) if limit else context_length,
            bos=bos,
            size=model.get_input_embeddings().weight.shape[0],
        )
        self.model = model
        self.device: torch.device = model.get_input_embeddings().weight.device
        self.batch_tokens = batch_tokens
        self.lock = Lock()
        self._modules = Modules(model, name)
        self._widths: dict[HookPoint, int] = {}

    def hook_point(self, name: str) -> HookPoint:
        """Find a hook point by the end of its module's path, ``.input`` or ``.output`` after it.

        Raises:
            AutointerpError: if no module ends so, or several do; the near names are listed.
        """
        module, _, side = name.rpartition(".")
        if side == "input":
            return HookPoint(self._modules.find(module), "input")
        return HookPoint(self._modules.find(module if side == "output" else name), "output")

    def width(self, hook: HookPoint) -> int:
        """Size of the last dimension of the tensor at ``hook``."""
        if hook not in self._widths:
            row = [self.bos_id or 0, 0]
            self._widths[hook] = self._states(torch.tensor([row]), [hook])[hook].shape[-1]
        return self._widths[hook]

    @property
    def batch_limit(self) -> int:
        """How many tokens to read at once."""
        return (
            min(self.batch_tokens, CPU_TOKENS) if self.device.type == "cpu" else self.batch_tokens
        )

    def activations(
        self, rows: Sequence[Sequence[int] | NDArray[np.int32]], hooks: Sequence[HookPoint]
    ) -> Iterator[Batch]:
        """Run rows of token ids (without BOS) and yield what the hooks saw, longest rows first.

        The forward pass ends at the deepest hook. A batch that does not fit the device's
        memory is retried in halves, and later batches stay that small.

        Raises:
            AutointerpError: if a row is longer than the context, or one row does not fit.
        """
        for chosen in self._batches(rows):
            yield from self._read(rows, chosen, lambda ids: self._states(ids, hooks))

    def each(
        self,
        rows: Sequence[Sequence[int] | NDArray[np.int32]],
        hooks: Sequence[HookPoint],
        use: Callable[[Batch], T],
    ) -> Iterator[T]:
        """What ``use`` makes of every batch of :meth:`activations`, in their order.

        On a CPU a few batches are read and used at once, each in a thread with its share of the
        cores: cores that share a batch wait for one another at every step of it. ``use`` runs in
        those threads. The subject is held until the iterator is at its end or closed.

        Raises:
            AutointerpError: as :meth:`activations` does.
        """
        readers = min(READERS, torch.get_num_threads()) if self._shares_cores() else 1
        reading: deque[Future[list[T]]] = deque()
        with self._watched(hooks) as forward, _sharing_threads(readers) as pool:

            def read(chosen: list[int]) -> list[T]:
                return [use(batch) for batch in self._read(rows, chosen, forward)]

            for chosen in self._batches(rows):
                reading.append(pool.submit(read, chosen))
                if len(reading) > readers:
                    yield from reading.popleft().result()
            while reading:
                yield from reading.popleft().result()

    def _shares_cores(self) -> bool:
        """Whether several threads may forward at once, and gain by it."""
        # These fit their frequencies to the batch before them, in place.
        fitting = {"dynamic", "longrope"}
        rotary = (getattr(module, "rope_type", None) for module in self.model.modules())
        return self.device.type == "cpu" and not any(str(kind) in fitting for kind in rotary)

    def _batches(self, rows: Sequence[Sequence[int] | NDArray[np.int32]]) -> Iterator[list[int]]:
        """Which rows to read together, the longest first."""
        extra = int(self.bos_id is not None)
        order = sorted((i for i in range(len(rows)) if len(rows[i])), key=lambda i: -len(rows[i]))
        if order and len(rows[order[0]]) + extra > self.context_length:
            raise AutointerpError(
                f"a row of {len(rows[order[0]])} tokens exceeds the context of"
                f" {self.context_length}; raise subject.context_length"
            )
        done = 0
        while done < len(order):
            size = max(1, self.batch_limit // (len(rows[order[done]]) + extra))
            yield order[done : done + size]
            done += size

    def _read(
        self, rows: Sequence[Sequence[int] | NDArray[np.int32]], chosen: list[int], forward: Forward
    ) -> Iterator[Batch]:
        """Read some rows together; in halves where the device's memory does not take them."""
        extra = int(self.bos_id is not None)
        waiting = [chosen]
        while waiting:
            part = waiting.pop()
            try:
                states = forward(self._pad([rows[i] for i in part]))
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise AutointerpError(
                        f"one row of {len(rows[part[0]])} tokens does not fit on {self.device};"
                        " lower subject.context_length"
                    ) from error
                half = len(part) // 2
                self.batch_tokens = (len(rows[part[0]]) + extra) * half
                waiting += [part[half:], part[:half]]
                continue
            states = {hook: state[:, extra:] for hook, state in states.items()}
            yield Batch(part, [len(rows[i]) for i in part], states)

    def _pad(self, rows: Sequence[Sequence[int] | NDArray[np.int32]]) -> torch.Tensor:
        extra = int(self.bos_id is not None)
        ids = np.zeros((len(rows), extra + max(map(len, rows))), np.int64)
        if self.bos_id is not None:
            ids[:, 0] = self.bos_id
        for i, row in enumerate(rows):
            ids[i, extra : extra + len(row)] = row
        return torch.from_numpy(ids)

    def _states(
        self, ids: torch.Tensor, hooks: Sequence[HookPoint]
    ) -> dict[HookPoint, torch.Tensor]:
        with self._watched(hooks) as forward:
            return forward(ids)

    @contextmanager
    def _watched(self, hooks: Sequence[HookPoint]) -> Iterator[Forward]:
        """What gives the states at the hooks of ids [b, t], in whichever thread it is called.

        It forwards as far as the deepest hook. Padding is on the right, where a causal model's
        real tokens cannot see it, so no mask is needed.
        """
        wanted = set(hooks)
        seen = local()

        def forward(ids: torch.Tensor) -> dict[HookPoint, torch.Tensor]:
            states: dict[HookPoint, torch.Tensor] = {}
            seen.states = states
            with torch.inference_mode(), suppress(_StopForward):
                self.model(input_ids=ids.to(self.device), use_cache=False)
            missing = [str(hook) for hook in wanted if hook not in states]
            if missing:
                raise AutointerpError(
                    f"{', '.join(missing)} does not run in a forward of {self.name}"
                )
            return states

        def keep(hook: HookPoint, value: Any) -> None:
            seen.states[hook] = value[0] if isinstance(value, tuple) else value
            if len(seen.states) == len(wanted):
                raise _StopForward

        with self.lock, ExitStack() as attached:
            for hook in wanted:
                attached.callback(self._attach(hook, partial(keep, hook)).remove)
            yield forward

    def module(self, hook: HookPoint) -> torch.nn.Module:
        """The module at whose input or output ``hook`` is."""
        module: torch.nn.Module = self._modules[hook.module]
        return module

    def _attach(self, hook: HookPoint, keep: Callable[[Any], None]) -> Any:
        module = self._modules[hook.module]
        if hook.side == "output":
            return module.register_forward_hook(lambda _m, _a, output: keep(output))

        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        return module.register_forward_pre_hook(before, with_kwargs=True)


@contextmanager
def _sharing_threads(readers: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads for work at once, the cores that torch uses shared among them."""
    threads = torch.get_num_threads()
    share = max(1, threads // readers)
    with ThreadPoolExecutor(readers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        torch.set_num_threads(share)  # this thread's too: it works beside them
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
