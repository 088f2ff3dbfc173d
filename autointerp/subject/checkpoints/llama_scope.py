"""Llama Scope: ``hyperparams.json`` and ``checkpoints/final.safetensors``; and its R1 variant.

The coders were trained on activations scaled to the norm √d on average, and decide on the
scaled pre-activation. The scale is folded into the weights, and pre-activations stay in scaled
units, so the threshold stays as it is written. Where ``sparsity_include_decoder_norm`` is set,
a latent is active if pre-activation × decoder norm exceeds the threshold, and the activation
itself is not multiplied. Where the scale is already in the weights, ``norm_activation`` is
``inference``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Threshold, relu
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    Weights,
    checkpoints,
    info,
    load_safetensors,
)
from autointerp.subject.checkpoints.hooks import module_path
from autointerp.subject.coders import SparseCoder

_MODEL = "meta-llama/Llama-3.1-8B"
_R1_WEIGHTS = "sae_weights.safetensors"


@checkpoints.register("llama_scope")
class LlamaScope(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return _root(files) is not None

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        root = _root(files)
        if root is None:
            raise AutointerpError(f"{files}: there is no hyperparams.json")
        config = root.json("hyperparams.json")
        path = root.folder / "checkpoints" / "final.safetensors"
        if not path.is_file():
            raise AutointerpError(f"{files}: there is no checkpoints/final.safetensors")
        weights = load_safetensors(path)
        activation = str(config.get("act_fn", "jumprelu"))
        if activation not in ("jumprelu", "relu"):
            raise AutointerpError(f"{files}: unknown act_fn {activation!r} (known: jumprelu, relu)")
        threshold = None
        if activation == "jumprelu":
            threshold = torch.tensor(_number(config, "jump_relu_threshold", files))
        return _assemble(files, "llama_scope", config, path, weights, threshold)


@checkpoints.register("llama_scope_r1")
class LlamaScopeR1(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return (
            bool(files.weights(_R1_WEIGHTS))
            and files.path("config.json") is not None
            and files.path("cfg.json") is None
        )

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one(_R1_WEIGHTS)
        weights = load_safetensors(path)
        d_sae = weights.get("encoder.weight", None, None).shape[0]
        threshold = weights.scalar_or("log_jumprelu_threshold", d_sae).exp()
        config = files.json("config.json")
        return _assemble(files, "llama_scope_r1", config, path, weights, threshold)


def _root(files: Files) -> Files | None:
    """The folder with hyperparams.json: the one given, or above ``checkpoints/``."""
    for folder in (files.folder, files.folder.parent):
        root = Files(folder, None, files.name, files.revision)
        if root.path("hyperparams.json") is not None:
            return root
    return None


def _assemble(
    files: Files,
    layout: str,
    config: dict[str, Any],
    path: Path,
    weights: Weights,
    threshold: Tensor | None,
) -> SparseCoder:
    if config.get("use_glu_encoder"):
        raise AutointerpError(f"{files}: a gated linear encoder (use_glu_encoder) is not supported")
    encoder = weights.get("encoder.weight", None, config.get("d_model"))
    d_sae, d_in = encoder.shape
    decoder = weights.get("decoder.weight", None, d_sae)
    if threshold is not None and config.get("sparsity_include_decoder_norm"):
        threshold = threshold / decoder.norm(dim=0)
    hook, out = config.get("hook_point_in"), config.get("hook_point_out")
    model = config.get("model_name") or _MODEL
    l0 = config.get("top_k")
    scale_in = _scale("in", d_in, config, weights, files)
    transcoder = out is not None and out != hook
    scale_out = scale_in
    if transcoder:
        scale_out = _scale("out", decoder.shape[0], config, weights, files)
    return SparseCoder.assemble(
        W_enc=encoder.T,
        W_dec=decoder.T,
        b_enc=weights.get("encoder.bias", d_sae),
        b_dec=weights.get("decoder.bias", decoder.shape[0]),
        activation=relu() if threshold is None else Threshold(threshold),
        subtract_b_dec=bool(config.get("apply_decoder_bias_to_pre_encoder")),
        scale_in=scale_in,
        scale_out=scale_out,
        info=info(
            files,
            layout,
            path,
            architecture="relu" if threshold is None else "jumprelu",
            model_name=model,
            hook=module_path(hook, model),
            hook_out=module_path(out, model) if transcoder else None,
            claimed_hook=hook,
            l0=float(l0) if l0 else None,
        ),
    )


def _scale(side: str, width: int, config: dict[str, Any], weights: Weights, files: Files) -> float:
    """What activations at the ``in`` or ``out`` side are multiplied by."""
    kind = config.get("norm_activation", "dataset-wise")
    if kind == "inference":
        return 1.0
    if kind != "dataset-wise":
        raise AutointerpError(
            f"{files}: unknown norm_activation {kind!r} (known: dataset-wise, inference)"
        )
    return math.sqrt(width) / _average_norm(side, config, weights, files)


def _average_norm(side: str, config: dict[str, Any], weights: Weights, files: Files) -> float:
    """The data set's mean activation norm, from the configuration or beside the weights.

    Beside the weights it is named after the hook point, or after the side.
    """
    key = f"dataset_average_activation_norm.{side}"
    for name in (key, f"dataset_average_activation_norm.{config.get(f'hook_point_{side}')}"):
        if name in weights:
            return float(weights.scalar_or(name, 1))
    norms = config.get("dataset_average_activation_norm")
    if not isinstance(norms, dict) or not norms.get(side):
        raise AutointerpError(
            f"{files}: there is no {key}, without which its activations cannot be scaled"
        )
    return _number(norms, side, files)


def _number(config: dict[str, Any], key: str, files: Files) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AutointerpError(f"{files}: {key} must be a number, not {value!r}")
    return float(value)
