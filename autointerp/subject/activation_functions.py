"""What turns a coder's pre-activations into activations: TopK, GroupMax, thresholds, gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor


class SparseActivations(NamedTuple):
    """The non-zero activations of a batch, ordered by row."""

    rows: Tensor  # int64 [m]
    latents: Tensor  # int32 [m]
    values: Tensor  # float32 [m]


class Activation(Protocol):
    """What turns pre-activations [n, d_sae] into activations."""

    def dense(self, pre: Tensor) -> Tensor:
        """Activations [n, d_sae], zero where a latent is inactive."""
        ...

    def sparse(self, pre: Tensor) -> SparseActivations:
        """The same, as (row, latent, value)."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype) -> Activation: ...


def _gathered(values: Tensor, latents: Tensor, keep: Tensor) -> SparseActivations:
    """Flatten values and latents [n, k] to those that are kept."""
    if bool(keep.all()):
        n, k = values.shape
        rows = torch.arange(n, device=values.device).repeat_interleave(k)
        return SparseActivations(rows, latents.flatten().int(), values.flatten().float())
    rows, columns = keep.nonzero(as_tuple=True)
    return SparseActivations(rows, latents[rows, columns].int(), values[rows, columns].float())


def _scattered(values: Tensor, latents: Tensor, pre: Tensor) -> Tensor:
    return torch.zeros_like(pre).scatter_(-1, latents, values)


def largest(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of pre [n, d]: values and columns [n, k], in any order.

    On a CPU ``torch.topk`` costs as much as the matrix product before it. The k largest lie in
    the k groups of columns whose maxima are largest, and finding those maxima is cheap.
    """
    n, width = pre.shape
    size = 1 << int((width / k) ** 0.5).bit_length() - 1
    if pre.device.type != "cpu" or size < 4 or width % size:
        values, columns = torch.topk(pre, k, dim=-1, sorted=False)
        return values, columns
    stride = width // size  # a group is every stride-th column: its maximum vectorises
    groups = torch.topk(pre.view(n, size, stride).amax(1), k, dim=-1, sorted=False).indices
    members = torch.arange(0, width, stride)[:, None]
    columns = (groups[:, None] + members).view(n, -1)
    values, at = torch.topk(pre.gather(1, columns), k, dim=-1, sorted=False)
    return values, columns.gather(1, at)


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of each token.

    ``by="magnitude"`` ranks by absolute value and keeps the sign. With ``rectify`` what is not
    positive becomes zero; before or after the selection makes no difference.
    """

    k: int
    by: Literal["value", "magnitude"] = "value"
    rectify: bool = True

    def _select(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        if self.by == "value":
            return largest(pre, self.k)
        latents = largest(pre.abs(), self.k)[1]
        return pre.gather(-1, latents), latents

    def dense(self, pre: Tensor) -> Tensor:
        values, latents = self._select(pre)
        return _scattered(values.relu() if self.rectify else values, latents, pre)

    def sparse(self, pre: Tensor) -> SparseActivations:
        values, latents = self._select(pre)
        return _gathered(values, latents, values > 0 if self.rectify else values != 0)

    def to(self, device: torch.device, dtype: torch.dtype) -> TopK:
        return self


@dataclass(frozen=True)
class GroupMax:
    """The largest positive pre-activation in each of ``k`` equal groups of latents."""

    k: int

    def _select(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        values, within = pre.reshape(len(pre), self.k, -1).max(dim=-1)
        size = pre.shape[-1] // self.k
        return values, within + torch.arange(self.k, device=pre.device) * size

    def dense(self, pre: Tensor) -> Tensor:
        values, latents = self._select(pre)
        return _scattered(values.relu(), latents, pre)

    def sparse(self, pre: Tensor) -> SparseActivations:
        values, latents = self._select(pre)
        return _gathered(values, latents, values > 0)

    def to(self, device: torch.device, dtype: torch.dtype) -> GroupMax:
        return self


def _nonzero(mask: Tensor, values: Tensor) -> SparseActivations:
    flat = _true(mask.view(-1))
    rows = flat // mask.shape[1]
    latents = (flat - rows * mask.shape[1]).int()
    return SparseActivations(rows, latents, values.view(-1)[flat].float())


def _true(mask: Tensor) -> Tensor:
    """Where a mask [n] is true, ascending. Eight at a time, since nearly all are false."""
    whole = len(mask) // 8 * 8
    words = mask[:whole].view(torch.int64).nonzero().view(-1)
    which, within = mask[:whole].view(-1, 8)[words].nonzero(as_tuple=True)
    return torch.cat([words[which] * 8 + within, mask[whole:].nonzero().view(-1) + whole])


@dataclass(frozen=True, eq=False)
class Threshold:
    """Positive pre-activations strictly above a threshold: JumpReLU, and ReLU at zero."""

    threshold: Tensor  # [d_sae] or scalar

    def _mask(self, pre: Tensor) -> Tensor:
        return pre > self.threshold.clamp_min(0)

    def dense(self, pre: Tensor) -> Tensor:
        return torch.where(self._mask(pre), pre, torch.zeros_like(pre))

    def sparse(self, pre: Tensor) -> SparseActivations:
        return _nonzero(self._mask(pre), pre)

    def to(self, device: torch.device, dtype: torch.dtype) -> Threshold:
        return Threshold(self.threshold.to(device, dtype))


def relu() -> Threshold:
    return Threshold(torch.zeros(()))


@dataclass(frozen=True, eq=False)
class Gated:
    """relu(pre · scale + shift) where the gate ``pre`` is positive.

    Both paths of a gated coder share the encoder's directions, so the magnitude path is an
    affine function of the gate's: shift = b_mag − b_gate · scale.
    """

    scale: Tensor  # [d_sae]
    shift: Tensor  # [d_sae]

    def dense(self, pre: Tensor) -> Tensor:
        magnitude = torch.addcmul(self.shift, pre, self.scale).relu_()
        return magnitude * (pre > 0)

    def sparse(self, pre: Tensor) -> SparseActivations:
        acts = self.dense(pre)
        return _nonzero(acts > 0, acts)

    def to(self, device: torch.device, dtype: torch.dtype) -> Gated:
        return Gated(self.scale.to(device, dtype), self.shift.to(device, dtype))
