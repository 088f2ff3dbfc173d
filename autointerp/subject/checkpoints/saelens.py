"""SAELens, versions 3 to 6: ``cfg.json`` and ``sae_weights.safetensors``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Activation, Gated, Threshold, TopK, relu
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    Weights,
    checkpoints,
    info,
    load_safetensors,
    positive_int,
    selection_size,
)
from autointerp.subject.checkpoints.hooks import family_of, place
from autointerp.subject.coders import CoderInfo, Normalisation, SparseCoder

_WEIGHTS = "sae_weights.safetensors"
_BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_RESCALED = ("topk", "abstopk", *_BATCH_TOPK, "matryoshka_topk")
_REFUSED = {
    "temporal": "its latents depend on the tokens before, so they cannot be told token by token",
    "matching_pursuit": "it encodes by an iterative search, which is not supported",
}
_CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
_NORMALISATIONS: dict[str, Normalisation] = {
    "none": "none",
    "expected_average_only_in": "none",  # folded into the weights
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}
#: What SAELens's list of releases adds to the configurations in early repositories.
_RELEASES: dict[str, dict[str, Any]] = {
    "GPT2-Small-SAEs-Reformatted": _CENTRED,
    "GPT2-Small-Feature-Splitting-Experiment-Layer-8": _CENTRED,
    "gpt2-small-mlp-out-saes": _CENTRED,
    "Mistral-7B-Residual-Stream-SAEs": {"normalize_activations": "constant_norm_rescale"},
}
#: Where TransformerLens shows what the model writes to the residual, or their sum.
_WRITTEN = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
)


@checkpoints.register("saelens")
class SaeLens(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights(_WEIGHTS)) and files.path("cfg.json") is not None

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        config = _modern(files.json("cfg.json") | _known_of_release(files))
        architecture = str(config["architecture"])
        if architecture in _REFUSED:
            raise AutointerpError(f"{files}: {architecture} coder: {_REFUSED[architecture]}")
        path = files.one(_WEIGHTS)
        weights = load_safetensors(path)
        d_in = _width(config, "d_in", files)
        d_sae = _width(config, "d_sae", files)
        d_out = positive_int(config.get("d_out", d_in), f"{files}: d_out in cfg.json")
        scale = _data_set_scale(config, files)
        rescale = architecture in _RESCALED and bool(config.get("rescale_acts_by_decoder_norm"))
        activation, b_enc = _activation(architecture, config, weights, d_sae, files)
        if rescale and isinstance(activation, Threshold):
            # the threshold was learnt in units of the decoder's norm, which the fold divides
            activation = Threshold(activation.threshold / scale)
        subtract = bool(config["apply_b_dec_to_input"]) and architecture not in _TRANSCODERS
        skip = "skip" in architecture.split("_")
        return SparseCoder.assemble(
            W_enc=weights.get("W_enc", d_in, d_sae),
            W_dec=weights.get("W_dec", d_sae, d_out),
            b_enc=b_enc,
            b_dec=weights.get("b_dec", d_out),
            activation=activation,
            subtract_b_dec=subtract,
            rescale_by_decoder_norm=rescale,
            scale_in=scale,
            W_skip=weights.get("W_skip", d_out, d_in).T if skip else None,
            normalisation=_normalisation(config, files),
            center=_is_centered(config),
            info=_info(files, config, architecture, path, activation),
        )


def _known_of_release(files: Files) -> dict[str, Any]:
    """By the repository's name, as written or as the hub's cache writes it."""
    release = files.search(rf"(?:^|--)({'|'.join(_RELEASES)})$")
    return _RELEASES[release[1]] if release else {}


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """Bring the flat configuration of versions before 6 into today's form."""
    metadata = config.get("metadata") or {}
    version = str(config.get("sae_lens_version") or metadata.get("sae_lens_version") or "0")
    architecture = config.get("architecture") or "standard"
    if version.split(".")[0].isdecimal() and int(version.split(".")[0]) >= 6:
        return {"apply_b_dec_to_input": True, **config, "architecture": architecture}
    new = {"apply_b_dec_to_input": True, "metadata": config, **config, "architecture": architecture}
    new["metadata"] = {"hook_name": config.get("hook_point"), **config, **metadata}
    if (config.get("activation_fn_str") or config.get("activation_fn")) == "topk":
        new["architecture"] = "topk"
        new["k"] = (config.get("activation_fn_kwargs") or {}).get("k", config.get("k"))
    normalize = config.get("normalize_activations")
    if isinstance(normalize, bool):
        new["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    return new


def _width(config: dict[str, Any], key: str, files: Files) -> int:
    if key not in config:
        raise AutointerpError(f"{files}: cfg.json does not give {key}")
    return positive_int(config[key], f"{files}: {key} in cfg.json")


def _activation(
    architecture: str, config: dict[str, Any], weights: Weights, d_sae: int, files: Files
) -> tuple[Activation, Tensor]:
    """The activation function and the encoder's bias [d_sae]."""
    if architecture == "gated":
        scale = weights.get("r_mag", d_sae).exp()
        b_gate = weights.get("b_gate", d_sae)
        return Gated(scale, weights.get("b_mag", d_sae) - b_gate * scale), b_gate
    b_enc = weights.get("b_enc", d_sae)
    if architecture in ("standard", "transcoder", "skip_transcoder"):
        return relu(), b_enc
    if architecture in ("topk", "abstopk", "matryoshka_topk"):
        k = selection_size(config.get("k"), f"{files}: k in cfg.json", d_sae)
        if architecture == "abstopk":
            return TopK(k, by="magnitude", rectify=False), b_enc
        return TopK(k), b_enc
    if architecture in _BATCH_TOPK:
        return Threshold(weights.scalar_or("topk_threshold", d_sae)), b_enc
    if architecture.startswith("jumprelu"):
        return Threshold(_jump(weights, d_sae)), b_enc
    known = ("standard", "gated", "jumprelu", *_RESCALED, *_TRANSCODERS)
    raise AutointerpError(
        f"{files}: unknown architecture {architecture!r} (known: {', '.join(known)})"
    )


def _jump(weights: Weights, d_sae: int) -> Tensor:
    """A training checkpoint keeps the logarithm of the threshold."""
    if "threshold" not in weights and "log_threshold" in weights:
        return torch.exp(weights.scalar_or("log_threshold", d_sae))
    return weights.scalar_or("threshold", d_sae)


def _normalisation(config: dict[str, Any], files: Files) -> Normalisation:
    name = str(config.get("normalize_activations") or "none")
    if name not in _NORMALISATIONS:
        known = ", ".join(_NORMALISATIONS)
        raise AutointerpError(
            f"{files}: normalize_activations {name!r} is not supported unless it is folded into "
            f"the weights (known: {known})"
        )
    return _NORMALISATIONS[name]


def _data_set_scale(config: dict[str, Any], files: Files) -> float:
    """The data set's scale, which ``expected_average_only_in`` needs and weights do not hold.

    Checkpoints made in training have it beside them; others have had it folded.
    """
    if config.get("normalize_activations") != "expected_average_only_in":
        return 1.0
    metadata = config.get("metadata") or {}
    factor = config.get("norm_scaling_factor", metadata.get("norm_scaling_factor"))
    if factor is None:
        factor = files.json("activation_scaler.json").get("scaling_factor")
    if not isinstance(factor, int | float) or not factor > 0:
        raise AutointerpError(
            f"{files}: normalised by the data set's average norm, which is not in the checkpoint; "
            'add "norm_scaling_factor": sqrt(d_in) / average norm to cfg.json'
        )
    return float(factor)


def _is_centered(config: dict[str, Any]) -> bool:
    """Trained where writing weights were centred, so that what is written has mean zero.

    TransformerLens centres only models whose norms subtract the mean.
    """
    metadata = config.get("metadata") or {}
    kwargs = metadata.get("model_from_pretrained_kwargs") or {}
    family = family_of(metadata.get("model_name"))
    written = str(metadata.get("hook_name")).split(".")[-1] in _WRITTEN
    return (
        bool(kwargs.get("center_writing_weights"))
        and written
        and (family is None or family.layer_norm)
    )


def _info(
    files: Files, config: dict[str, Any], architecture: str, path: Any, activation: Activation
) -> CoderInfo:
    metadata = config.get("metadata") or {}
    model = metadata.get("model_name")
    hook = metadata.get("hook_name")
    out = metadata.get("hook_name_out") if architecture in _TRANSCODERS else None
    out_path = metadata.get("hf_hook_name_out") if architecture in _TRANSCODERS else None
    l0 = activation.k if isinstance(activation, TopK) else metadata.get("l0", config.get("k"))
    return info(
        files,
        "saelens",
        path,
        architecture=architecture,
        model_name=model,
        hook=place(hook, metadata.get("hf_hook_name"), model),
        hook_out=place(out, out_path, model),
        claimed_hook=hook,
        l0=None if l0 is None else float(l0),
        context_length=metadata.get("context_size"),
    )
