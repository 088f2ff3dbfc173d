"""Gemma Scope: JumpReLU coders that never subtract b_dec.

The first release has ``params.npz`` and no configuration, so that place, L0 and model are told
by the path alone (``gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71``). The second has
``params.safetensors`` with lower-case names, and usually a ``config.json`` with hook points.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Threshold
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    Weights,
    checkpoints,
    info,
    load_safetensors,
)
from autointerp.subject.coders import SparseCoder


@checkpoints.register("gemma_scope")
class GemmaScope(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights("params.npz"))

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one("params.npz")
        weights = _load_npz(path)
        W_enc, W_dec, b_enc, b_dec, threshold = _jump_relu(weights)
        layer = files.search(r"^layer_(\d+)$")
        embedding = layer is None and files.search(r"^embedding$") is not None
        l0 = files.search(r"^average_l0_(\d+)$")
        release = files.search(r"gemma-scope-([^/]+?)(?:-pt)?-(res|mlp|att|transcoders)$")
        hook = "model.layers.0.input" if embedding else _place(layer, release and release[2])
        return SparseCoder.assemble(
            W_enc,
            W_dec,
            b_enc,
            b_dec,
            Threshold(threshold),
            subtract_b_dec=False,
            # embedding coders were trained on embeddings before the model multiplies them by √d
            scale_in=W_enc.shape[0] ** -0.5 if embedding else 1.0,
            info=info(
                files,
                "gemma_scope",
                path,
                architecture="jumprelu",
                model_name=f"google/gemma-2-{release[1]}" if release else None,
                hook=hook,
                claimed_hook=release[2] if release else None,
                l0=float(l0[1]) if l0 else None,
            ),
        )


def _load_npz(path: Path) -> Weights:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tensors = {_upper(name): torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise AutointerpError(f"{path} is not a readable .npz file: {error}") from error
    return Weights(path, tensors)


def _upper(name: str) -> str:
    """``w_enc`` → ``W_enc``: some releases write the weights in lower case."""
    return f"W{name[1:]}" if name.startswith("w_") else name


def _jump_relu(weights: Weights) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """W_enc, W_dec, b_enc, b_dec and threshold, with shapes checked."""
    W_enc = weights.get("W_enc", None, None)
    d_sae = W_enc.shape[1]
    W_dec = weights.get("W_dec", d_sae, None)
    b_enc, b_dec = weights.get("b_enc", d_sae), weights.get("b_dec", W_dec.shape[1])
    return W_enc, W_dec, b_enc, b_dec, weights.scalar_or("threshold", d_sae)


def _place(layer: re.Match[str] | None, site: str | None) -> str | None:
    """The hook point of the first release. Its transcoders read what no module emits."""
    below = {
        "res": "output",
        "mlp": "post_feedforward_layernorm.output",
        "att": "self_attn.o_proj.input",
    }.get(site or "")
    return f"model.layers.{layer[1]}.{below}" if layer and below else None


@checkpoints.register("gemma_scope_2")
class GemmaScope2(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights("params.safetensors", "params_layer_*.safetensors"))

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        config = files.json("config.json")
        architecture = config.get("architecture", "jump_relu")
        if architecture != "jump_relu":
            raise AutointerpError(
                f"{files}: unknown architecture {architecture!r} (known: jump_relu)"
            )
        path = files.one("params.safetensors", "params_layer_*.safetensors")
        raw = load_safetensors(path)
        weights = Weights(path, {_upper(name): tensor for name, tensor in raw.tensors.items()})
        decoder = weights.tensors.get("W_dec")
        if isinstance(decoder, Tensor) and decoder.dim() == 3:
            raise AutointerpError(
                f"{files} is a cross-layer transcoder: it writes to several layers at once, "
                "which is not supported"
            )
        W_enc, W_dec, b_enc, b_dec, threshold = _jump_relu(weights)
        shape = W_enc.shape[0], W_dec.shape[1]
        skip = "affine_skip_connection"
        if config.get("affine_connection") and skip not in weights:
            raise AutointerpError(f"{path}: there is no tensor {skip!r}, which config.json claims")
        hook, hook_out = _place_2(files)
        return SparseCoder.assemble(
            W_enc,
            W_dec,
            b_enc,
            b_dec,
            Threshold(threshold),
            subtract_b_dec=False,
            W_skip=weights.get(skip, *shape) if skip in weights else None,
            info=info(
                files,
                "gemma_scope_2",
                path,
                architecture="jumprelu",
                model_name=config.get("model_name"),
                hook=config.get("hf_hook_point_in") or hook,
                hook_out=_distinct(config, hook_out),
                claimed_hook=config.get("hf_hook_point_in"),
            ),
        )


def _distinct(config: dict[str, object], guess: str | None) -> str | None:
    """The output's hook point, None of an autoencoder, whose output is its input."""
    out = config.get("hf_hook_point_out") or guess
    return str(out) if out and out != config.get("hf_hook_point_in") else None


def _place_2(files: Files) -> tuple[str | None, str | None]:
    """The hook points that the folders tell, for a release without config.json."""
    layer = files.search(r"^layer_(\d+)_")
    site = files.search(r"^(resid_post|attn_out|mlp_out|transcoder)(_all)?$")
    if layer is None or site is None:
        return None, None
    block = f"model.layers.{layer[1]}"
    return {
        "resid_post": (f"{block}.output", None),
        "attn_out": (f"{block}.self_attn.o_proj.input", None),
        "mlp_out": (f"{block}.post_feedforward_layernorm.output", None),
        "transcoder": (
            f"{block}.pre_feedforward_layernorm.output",
            f"{block}.post_feedforward_layernorm.output",
        ),
    }[site[1]]
