"""Sparse coders: every activation function and normalisation that the readers produce.

A coder maps activations x [n, d_in] to latents [n, d_sae] and back to [n, d_out]::

    pre = normalise(x) @ W_enc + b_enc
    acts = activation(pre)
    reconstruction = denormalise(acts @ W_dec + b_dec) + x @ W_skip

Whatever is linear (subtracting b_dec, rescaling by decoder norms, a scale of the data set) is
folded into the weights once, by :meth:`SparseCoder.assemble`, so that encoding is one matrix
product and one selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Activation, SparseActivations, TopK

Normalisation = Literal["none", "layer_norm", "constant_norm"]

BLOCK_ELEMENTS = 2**25  # pre-activations held at once: enough to fill a GPU
CACHE_ELEMENTS = 2**20  # of them a CPU's core keeps in its cache
CACHE_ROWS = 256  # with fewer, reading the encoder costs a CPU more than multiplying by it

_EPSILON = 1e-5  # added to the standard deviation, outside the root


@dataclass(frozen=True)
class CoderInfo:
    """What a checkpoint says of itself; None where it says nothing.

    ``hook`` and ``hook_out`` are Hugging Face module paths ending in ``.input`` or ``.output``
    (``hook_out`` only of a transcoder). ``claimed_hook`` is the checkpoint's own word for the
    place, which may have no such path. ``l0`` is the claimed number of active latents a token.
    """

    layout: str = "none"
    architecture: str = ""
    path: str = ""
    sha256: str = ""
    revision: str | None = None
    model_name: str | None = None
    hook: str | None = None
    hook_out: str | None = None
    claimed_hook: str | None = None
    l0: float | None = None
    context_length: int | None = None


@dataclass(frozen=True, eq=False)
class SparseCoder:
    """A sparse autoencoder or transcoder, ready to encode. Build it with :meth:`assemble`."""

    W_enc: Tensor  # [d_in, d_sae]
    b_enc: Tensor  # [d_sae], less b_dec @ W_enc where the coder subtracts b_dec
    W_dec: Tensor  # [d_sae, d_out]
    b_dec: Tensor  # [d_out]
    activation: Activation
    normalisation: Normalisation = "none"
    center: bool = False  # subtract each token's mean over d_in first
    W_skip: Tensor | None = None  # [d_in, d_out]
    info: CoderInfo = field(default_factory=CoderInfo)

    @classmethod
    def assemble(
        cls,
        W_enc: Tensor,
        W_dec: Tensor,
        b_enc: Tensor,
        b_dec: Tensor,
        activation: Activation,
        *,
        subtract_b_dec: bool,
        rescale_by_decoder_norm: bool = False,
        scale_in: float = 1.0,
        scale_out: float | None = None,
        W_skip: Tensor | None = None,
        normalisation: Normalisation = "none",
        center: bool = False,
        info: CoderInfo | None = None,
    ) -> SparseCoder:
        """Fold all that is linear into the weights.

        Args:
            subtract_b_dec: the encoder reads x − b_dec.
            rescale_by_decoder_norm: pre-activations are multiplied by the norms of the rows of
                W_dec before the activation function, and the decoder divides by them.
            scale_in: the coder was trained on x · scale_in.
            scale_out: and predicts the target · scale_out (``scale_in`` unless given).
        """
        W_enc = W_enc * scale_in
        scale_out = scale_in if scale_out is None else scale_out
        if subtract_b_dec:
            b_enc = b_enc - (b_dec / scale_in) @ W_enc
        W_dec, b_dec = W_dec / scale_out, b_dec / scale_out
        if rescale_by_decoder_norm:
            norms = W_dec.norm(dim=1)
            W_enc, b_enc = W_enc * norms, b_enc * norms
            W_dec = W_dec / torch.where(norms > 0, norms, torch.ones_like(norms))[:, None]
        info = info or CoderInfo()
        return cls(W_enc, b_enc, W_dec, b_dec, activation, normalisation, center, W_skip, info)

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def is_transcoder(self) -> bool:
        """True if the coder predicts something else than its input."""
        return self.info.hook_out is not None or self.d_in != self.d_out

    @property
    def is_signed(self) -> bool:
        """True if activations may be negative (abstopk), and a latent so has two effects."""
        return isinstance(self.activation, TopK) and not self.activation.rectify

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> SparseCoder:
        """The same coder elsewhere, or in another floating-point type."""
        device, dtype = torch.device(device), dtype or self.W_enc.dtype

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype).contiguous()

        return replace(
            self,
            W_enc=moved(self.W_enc),
            b_enc=moved(self.b_enc),
            W_dec=moved(self.W_dec),
            b_dec=moved(self.b_dec),
            W_skip=None if self.W_skip is None else moved(self.W_skip),
            activation=self.activation.to(device, dtype),
        )

    def check_width(self, width: int, hook: str) -> None:
        """Raise AutointerpError unless activations at ``hook`` have this coder's width."""
        if width != self.d_in:
            raise AutointerpError(
                f"coder {self.info.path or self.info.layout} reads {self.d_in} numbers a token "
                f"but {hook} has {width}; name the hook point it was trained on"
            )

    def _normalise(self, x: Tensor) -> Tensor:
        x = x.to(self.W_enc.dtype)
        if self.center or self.normalisation == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
        if self.normalisation == "none":
            return x
        return x / self._spread(x)

    def _spread(self, x: Tensor) -> Tensor:
        """What normalisation divides x [n, d_in] by: [n, 1]."""
        if self.normalisation == "layer_norm":
            return x.std(dim=-1, keepdim=True) + _EPSILON
        norm = x.norm(dim=-1, keepdim=True) / self.d_in**0.5
        return torch.where(norm > 0, norm, torch.ones_like(norm))  # a zero stays zero

    def _blocks(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Pre-activations of a few tokens at a time; each block overwrites the one before."""
        size = BLOCK_ELEMENTS // self.d_sae
        if x.device.type == "cpu":
            size = min(size, max(CACHE_ROWS, CACHE_ELEMENTS // self.d_sae))
        size = max(1, min(len(x), size))
        buffer = torch.empty(size, self.d_sae, device=x.device, dtype=self.W_enc.dtype)
        for start in range(0, len(x), size):
            part = self._normalise(x[start : start + size])
            pre = torch.addmm(self.b_enc, part, self.W_enc, out=buffer[: len(part)])
            yield start, pre

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Activations [n, d_sae] of x [n, d_in], zero where a latent is inactive."""
        return self.activation.dense(torch.addmm(self.b_enc, self._normalise(x), self.W_enc))

    @torch.no_grad()
    def encode_sparse(self, x: Tensor) -> SparseActivations:
        """The non-zero activations of x [n, d_in], rows ascending.

        Never holds more than BLOCK_ELEMENTS pre-activations (or one token's) at once. Signed
        coders (abstopk) give negative values too.
        """
        rows, latents, values = [], [], []
        for start, pre in self._blocks(x):
            part = self.activation.sparse(pre)
            rows.append(part.rows + start)
            latents.append(part.latents)
            values.append(part.values)
        if not rows:
            empty = torch.empty(0, device=x.device)
            return SparseActivations(empty.long(), empty.int(), empty.float())
        return SparseActivations(torch.cat(rows), torch.cat(latents), torch.cat(values))

    @torch.no_grad()
    def decode(self, acts: Tensor, x: Tensor) -> Tensor:
        """The reconstruction [n, d_out] of dense acts [n, d_sae].

        ``x`` [n, d_in] is the input they came from: normalisation is undone with its mean and
        spread, and a skip connection reads it.
        """
        x = x.to(self.W_dec.dtype)
        return self._denormalise(torch.addmm(self.b_dec, acts.to(x.dtype), self.W_dec), x)

    @torch.no_grad()
    def decode_sparse(self, acts: SparseActivations, x: Tensor) -> Tensor:
        """The same of sparse acts of x [n, d_in], without ever holding n × d_sae of them."""
        x = x.to(self.W_dec.dtype)
        summed = torch.nn.functional.embedding_bag(
            acts.latents.long(),
            self.W_dec,
            torch.searchsorted(acts.rows, torch.arange(len(x), device=x.device)),
            mode="sum",
            per_sample_weights=acts.values.to(x.dtype),
        )
        return self._denormalise(self.b_dec + summed, x)

    def _denormalise(self, out: Tensor, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        if self.normalisation != "none":
            out = out * self.output_scale(x)
        if self.normalisation == "layer_norm":
            out = out + mean
        if self.center and not self.is_transcoder and self.normalisation != "layer_norm":
            out = out + mean
        return out if self.W_skip is None else out + x @ self.W_skip

    def output_scale(self, x: Tensor) -> Tensor:
        """What decoding multiplies by to undo normalisation, at inputs x [..., d_in]: [..., 1]."""
        x = x.to(self.W_dec.dtype)
        if self.normalisation == "layer_norm":  # undone without the epsilon, by definition
            return x.std(dim=-1, keepdim=True)
        if self.normalisation == "none":
            return torch.ones_like(x[..., :1])
        return self._spread(x - x.mean(dim=-1, keepdim=True) if self.center else x)

    def decoder_directions(self) -> Tensor:
        """What each latent adds to the output when its activation is 1: [d_sae, d_out]."""
        return self.W_dec
