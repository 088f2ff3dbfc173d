"""Hooks that steer: they add to what a coder writes, in some rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from autointerp.subject.directions import Place, activations_of, largest_activations
from autointerp.subject.model import HookPoint, Subject


class Watcher(Protocol):
    """Sees what a coder reads, then what it writes, as [positions, d], and may change the latter.

    A coder that writes where it reads shows the same tensor twice.
    """

    place: Place

    def read(self, x: Tensor) -> None: ...

    def write(self, x: Tensor) -> Tensor | None: ...


class Push:
    """Adds amount · J · vector in some positions of a batch.

    Args:
        place: the coder, and where it reads and writes.
        positions: which positions [m] of the batch.
        vectors: [m, d_out].
        amounts: [m]; not a number where a latent's own activation is to be taken away.
        latents: the latents [m] whose activations those are.
    """

    def __init__(
        self, place: Place, positions: Tensor, vectors: Tensor, amounts: Tensor, latents: Tensor
    ) -> None:
        self.place = place
        self._positions, self._vectors = positions, vectors
        self._amounts, self._latents = amounts[:, None], latents
        self._own = amounts.isnan()
        self._ablates = bool(self._own.any())
        self._factors = torch.empty(0)

    def read(self, x: Tensor) -> None:
        x = x[self._positions.to(x.device)].to(self._vectors.device)
        amounts = self._amounts
        if self._ablates:
            own = activations_of(self.place.coder, x[self._own], self._latents[self._own])
            amounts = amounts.clone()
            amounts[self._own, 0] = -own
        self._factors = amounts * self.place.coder.output_scale(x).float()

    def write(self, x: Tensor) -> Tensor:
        moved, positions = x.clone(), self._positions.to(x.device)
        added = (self._factors * self._vectors).to(x.device)
        moved[positions] = (x[positions].float() + added).to(x.dtype)
        return moved


class Gauge:
    """Measures ‖x‖ / J where a coder writes: what s·‖vector‖ must be to be as large as x."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._scale = torch.empty(0)
        self.sizes = torch.empty(0)  # [positions]

    def read(self, x: Tensor) -> None:
        self._scale = self.place.coder.output_scale(x)[:, 0].float()

    def write(self, x: Tensor) -> None:
        scale = self._scale.to(x.device)
        self.sizes = x.float().norm(dim=-1) / torch.where(scale > 0, scale, 1.0)


class Peak:
    """Measures the largest activation of any latent, in size, where a coder reads."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.activations = torch.empty(0)  # [positions]

    def read(self, x: Tensor) -> None:
        coder = self.place.coder
        self.activations = largest_activations(coder, x.to(coder.W_enc.device))

    def write(self, x: Tensor) -> None:
        return


@contextmanager
def watched(subject: Subject, watchers: Sequence[Watcher]) -> Iterator[None]:
    """Let the watchers see every forward pass of the subject inside; ``subject.lock`` is held."""
    with ExitStack() as stack:
        stack.enter_context(subject.lock)
        for watcher in watchers:
            for hook, see in (
                (watcher.place.reads, watcher.read),
                (watcher.place.writes, watcher.write),
            ):
                handle = _attach(subject.module(hook), hook, see)
                stack.callback(handle.remove)
        yield


def _attach(
    module: torch.nn.Module, hook: HookPoint, see: Callable[[Tensor], Tensor | None]
) -> Any:
    def seen(value: Tensor) -> Tensor | None:
        changed = see(value.reshape(-1, value.shape[-1]))
        return None if changed is None else changed.view(value.shape)

    def after(_module: Any, _args: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return seen(output)
        changed = seen(output[0])
        return None if changed is None else (changed, *output[1:])

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        changed = seen(args[0] if args else kwargs["hidden_states"])
        if changed is None:
            return None
        if args:
            return (changed, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed}

    if hook.side == "output":
        return module.register_forward_hook(after)
    return module.register_forward_pre_hook(before, with_kwargs=True)
