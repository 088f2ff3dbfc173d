"""Single ``.pt`` and ``.pth`` files: OpenAI's sparse_autoencoder, Qwen Scope and Goodfire.

They are told apart by their tensors' names. None has a configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Activation, TopK, relu
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    Weights,
    checkpoints,
    info,
    load_torch,
    selection_size,
)
from autointerp.subject.checkpoints.hooks import module_path
from autointerp.subject.coders import SparseCoder

_TORCH = ("*.pt", "*.pth")


def _holds(files: Files, *names: str) -> bool:
    """Whether the one torch file has tensors of these names."""
    paths = [p for p in files.weights(*_TORCH) if p.name != "ae.pt"]
    return bool(paths) and all(name in load_torch(paths[0]) for name in names)


@checkpoints.register("openai")
class OpenAI(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return _holds(files, "encoder.weight", "pre_bias", "latent_bias")

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one(*_TORCH)
        tensors = load_torch(path)
        weights = Weights(path, tensors)
        encoder = weights.get("encoder.weight", None, None)
        d_sae, d_in = encoder.shape
        kind = tensors.get("activation", "ReLU")
        activation = _activation(kind, tensors, d_sae, files)
        is_topk = isinstance(activation, TopK)
        hook = _openai_hook(files)
        return SparseCoder.assemble(
            W_enc=encoder.T,
            W_dec=weights.get("decoder.weight", d_in, d_sae).T,
            b_enc=weights.get("latent_bias", d_sae),
            b_dec=weights.get("pre_bias", d_in),
            activation=activation,
            subtract_b_dec=True,
            normalisation="layer_norm" if is_topk else "none",
            info=info(
                files,
                "openai",
                path,
                architecture="topk" if is_topk else "relu",
                model_name="openai-community/gpt2",
                hook=module_path(hook, "gpt2"),
                claimed_hook=hook,
                l0=float(activation.k) if isinstance(activation, TopK) else None,
            ),
        )


def _activation(kind: Any, tensors: Mapping[str, Any], d_sae: int, files: Files) -> Activation:
    if kind == "ReLU":
        return relu()
    if kind != "TopK":
        raise AutointerpError(f"{files}: unknown activation {kind!r} (known: ReLU, TopK)")
    state = tensors.get("activation_state_dict") or {}
    after = state.get("postact_fn", "ReLU")
    if after not in ("ReLU", "Identity"):
        raise AutointerpError(f"{files}: unknown postact_fn {after!r} (known: ReLU, Identity)")
    k = selection_size(state.get("k"), f"{files}: k in activation_state_dict", d_sae)
    return TopK(k, rectify=after == "ReLU")


def _openai_hook(files: Files) -> str | None:
    """From the path ``…/resid_post_mlp/…/autoencoders/8.pt``, and delta and attention likewise."""
    site = files.search(r"^(resid_post_attn|resid_post_mlp|resid_delta_mlp|resid_delta_attn)$")
    layer = files.search(r"^(?:layer_?)?(\d+)(?:\.pth?)?$")
    if site is None or layer is None:
        return None
    name = {
        "resid_post_attn": "hook_resid_mid",
        "resid_post_mlp": "hook_resid_post",
        "resid_delta_mlp": "hook_mlp_out",
        "resid_delta_attn": "hook_attn_out",
    }[site[1]]
    return f"blocks.{layer[1]}.{name}"


@checkpoints.register("qwen_scope")
class QwenScope(Reader):
    """``SAE-Res-<model>-W32K-L0_50/layer3.sae.pt``: k is told by the repository's name only."""

    @classmethod
    def matches(cls, files: Files) -> bool:
        return _holds(files, "W_enc", "W_dec", "b_enc", "b_dec")

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one(*_TORCH)
        weights = Weights(path, load_torch(path))
        encoder = weights.get("W_enc", None, None)
        d_sae, d_in = encoder.shape
        release = files.search(r"SAE-Res-(.+)-W\d+K-L0_(\d+)")
        if release is None:
            raise AutointerpError(
                f"{files}: a Qwen Scope coder's k is told by its repository's name only; keep it "
                "in a folder called like SAE-Res-Qwen3-1.7B-Base-W32K-L0_50"
            )
        k = selection_size(int(release[2]), f"{files}: L0 in the repository's name", d_sae)
        layer = re.match(r"layer(\d+)\.", path.name)
        return SparseCoder.assemble(
            W_enc=encoder.T,
            W_dec=weights.get("W_dec", d_in, d_sae).T,
            b_enc=weights.get("b_enc", d_sae),
            b_dec=weights.get("b_dec", d_in),
            activation=TopK(k),
            subtract_b_dec=False,
            info=info(
                files,
                "qwen_scope",
                path,
                architecture="topk",
                model_name=f"Qwen/{release[1]}",
                hook=f"model.layers.{layer[1]}.output" if layer else None,
                l0=float(k),
            ),
        )


@checkpoints.register("goodfire")
class Goodfire(Reader):
    """``Llama-3.1-8B-Instruct-SAE-l19.pth``."""

    @classmethod
    def matches(cls, files: Files) -> bool:
        return _holds(files, "encoder_linear.weight")

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one(*_TORCH)
        weights = Weights(path, load_torch(path))
        encoder = weights.get("encoder_linear.weight", None, None)
        d_sae, d_in = encoder.shape
        release = files.search(r"^(Llama-.+)-SAE-l(\d+)")
        return SparseCoder.assemble(
            W_enc=encoder.T,
            W_dec=weights.get("decoder_linear.weight", d_in, d_sae).T,
            b_enc=weights.get("encoder_linear.bias", d_sae),
            b_dec=weights.get("decoder_linear.bias", d_in),
            activation=relu(),
            subtract_b_dec=False,
            info=info(
                files,
                "goodfire",
                path,
                architecture="relu",
                model_name=f"meta-llama/{release[1]}" if release else None,
                hook=f"model.layers.{release[2]}.output" if release else None,
            ),
        )
