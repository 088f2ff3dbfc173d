"""The language model under study: loading, hook points, and activations in few, full batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from autointerp.latents import AutointerpError
from autointerp.subject.modules import Modules
from autointerp.subject.outline import Outline
from autointerp.subject.reasons import first_line

DEMO = Path(__file__).resolve().parent.parent / "demo"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Side = Literal["input", "output"]


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

    def activations(
        self, rows: Sequence[Sequence[int] | NDArray[np.int32]], hooks: Sequence[HookPoint]
    ) -> Iterator[Batch]:
        """Run rows of token ids (without BOS) and yield what the hooks saw, longest rows first.

        The forward pass ends at the deepest hook. A batch that does not fit the device's
        memory is retried in halves, and later batches stay that small.

        Raises:
            AutointerpError: if a row is longer than the context, or one row does not fit.
        """
        extra = int(self.bos_id is not None)
        order = sorted((i for i in range(len(rows)) if len(rows[i])), key=lambda i: -len(rows[i]))
        if order and len(rows[order[0]]) + extra > self.context_length:
            raise AutointerpError(
                f"a row of {len(rows[order[0]])} tokens exceeds the context of"
                f" {self.context_length}; raise subject.context_length"
            )
        done = 0
        while done < len(order):
            size = max(1, self.batch_tokens // (len(rows[order[done]]) + extra))
            chosen = order[done : done + size]
            try:
                states = self._states(self._pad([rows[i] for i in chosen]), hooks)
            except torch.OutOfMemoryError as error:
                if len(chosen) == 1:
                    raise AutointerpError(
                        f"one row of {len(rows[chosen[0]])} tokens does not fit on {self.device};"
                        " lower subject.context_length"
                    ) from error
                self.batch_tokens = (len(rows[chosen[0]]) + extra) * (len(chosen) // 2)
                continue
            states = {hook: state[:, extra:] for hook, state in states.items()}
            yield Batch(chosen, [len(rows[i]) for i in chosen], states)
            done += len(chosen)

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
        """Forward ids [b, t] as far as the deepest hook. Padding is on the right, where a causal
        model's real tokens cannot see it, so no mask is needed."""
        with self.lock:
            return self._hooked(ids, set(hooks))

    def _hooked(self, ids: torch.Tensor, wanted: set[HookPoint]) -> dict[HookPoint, torch.Tensor]:
        states: dict[HookPoint, torch.Tensor] = {}
        handles = [self._attach(hook, states, wanted) for hook in wanted]
        try:
            with torch.inference_mode():
                self.model(input_ids=ids.to(self.device), use_cache=False)
        except _StopForward:
            pass
        finally:
            for handle in handles:
                handle.remove()
        missing = [str(hook) for hook in wanted if hook not in states]
        if missing:
            raise AutointerpError(f"{', '.join(missing)} does not run in a forward of {self.name}")
        return states

    def module(self, hook: HookPoint) -> torch.nn.Module:
        """The module at whose input or output ``hook`` is."""
        module: torch.nn.Module = self._modules[hook.module]
        return module

    def _attach(
        self, hook: HookPoint, states: dict[HookPoint, torch.Tensor], wanted: set[HookPoint]
    ) -> Any:
        module = self._modules[hook.module]

        def keep(value: Any) -> None:
            states[hook] = value[0] if isinstance(value, tuple) else value
            if len(states) == len(wanted):
                raise _StopForward

        if hook.side == "output":
            return module.register_forward_hook(lambda _m, _a, output: keep(output))

        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            keep(args[0] if args else kwargs["hidden_states"])

        return module.register_forward_pre_hook(before, with_kwargs=True)


def load_subject(
    model: str = "demo",
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    context_length: int = 256,
    batch_tokens: int = 8192,
    bos: Literal["skip", "keep"] = "skip",
    device_map: str | dict[str, Any] | None = None,
) -> Subject:
    """Load a Hugging Face causal language model from a folder or the hub; ``demo`` is built in.

    Raises:
        AutointerpError: if there is no such model, dtype or device.
    """
    path = str(DEMO) if model == "demo" else model
    if dtype not in DTYPES:
        raise AutointerpError(f"unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}")
    place = _device(device)
    options: dict[str, Any] = {"revision": revision, "dtype": DTYPES[dtype]}
    if device_map is not None:
        options["device_map"] = device_map
    loaded, tokenizer = _from_pretrained(path, revision, options)
    loaded.eval().requires_grad_(False)
    if device_map is None:
        loaded.to(place)
    return Subject(
        loaded,
        tokenizer,
        name=model,
        revision=getattr(loaded.config, "_commit_hash", None) or revision,
        context_length=context_length,
        batch_tokens=batch_tokens,
        bos=bos,
    )


def _from_pretrained(path: str, revision: str | None, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of the weights: they take a moment, the run has its own
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        try:
            # Pinned, so that what is captured does not depend on what happens to be installed.
            return load(path, attn_implementation="sdpa", **options), tokenizer
        except ValueError as error:
            if "attn_implementation" not in str(error) and "scaled_dot" not in str(error):
                raise
            return load(path, attn_implementation="eager", **options), tokenizer
    except (OSError, ValueError) as error:
        raise AutointerpError(f"cannot load the model {path!r}: {first_line(error)}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise AutointerpError(f"unknown device {name!r}; use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise AutointerpError(f"device {name!r} is not available here; use device: cpu")
    return device
