"""dictionary_learning: ``trainer_i/ae.pt`` and ``config.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Activation, Gated, Threshold, TopK, relu
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    Weights,
    checkpoints,
    info,
    load_torch,
    selection_size,
)
from autointerp.subject.checkpoints.hooks import family_of
from autointerp.subject.coders import SparseCoder


@dataclass(frozen=True)
class _Parts:
    """One coder in canonical orientation, and how its class reads its input."""

    W_enc: Tensor  # [d_in, d_sae]
    W_dec: Tensor  # [d_sae, d_in]
    b_enc: Tensor
    b_dec: Tensor
    activation: Activation
    subtract_b_dec: bool = True
    by_decoder_norm: bool = False


@checkpoints.register("dictionary_learning")
class DictionaryLearning(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights("ae.pt"))

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one("ae.pt")
        config = files.json("config.json")
        trainer = config.get("trainer") or {}
        kind = str(trainer.get("dict_class"))
        if kind not in _CLASSES:
            known = ", ".join(_CLASSES)
            raise AutointerpError(
                f"{files}: unknown dict_class {kind!r} in config.json (known: {known})"
            )
        weights = Weights(path, load_torch(path))
        parts = _CLASSES[kind](weights, trainer)
        k = trainer.get("k")
        hook, claimed = _hook(trainer)
        return SparseCoder.assemble(
            parts.W_enc,
            parts.W_dec,
            parts.b_enc,
            parts.b_dec,
            parts.activation,
            subtract_b_dec=parts.subtract_b_dec,
            rescale_by_decoder_norm=parts.by_decoder_norm,
            info=info(
                files,
                "dictionary_learning",
                path,
                architecture=kind,
                model_name=trainer.get("lm_name"),
                hook=hook,
                claimed_hook=claimed,
                l0=float(k) if k is not None else None,
                context_length=(config.get("buffer") or {}).get("ctx_len"),
            ),
        )


def _linear(weights: Weights) -> tuple[Tensor, Tensor]:
    """W_enc [d_in, d_sae] and W_dec [d_sae, d_in] of a pair of linear layers."""
    encoder = weights.get("encoder.weight", None, None)
    return encoder.T, weights.get("decoder.weight", *reversed(encoder.shape)).T


def _matrices(weights: Weights) -> tuple[Tensor, Tensor]:
    W_enc = weights.get("W_enc", None, None)
    return W_enc, weights.get("W_dec", *reversed(W_enc.shape))


def _auto_encoder(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    """Its own loader makes the decoder's columns unit vectors."""
    W_enc, W_dec = _linear(weights)
    b_enc, b_dec = weights.get("encoder.bias", len(W_dec)), weights.get("bias", len(W_enc))
    return _Parts(W_enc, W_dec, b_enc, b_dec, relu(), by_decoder_norm=True)


def _auto_encoder_new(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    """Activations are reported times the norm of the decoder's column."""
    W_enc, W_dec = _linear(weights)
    b_enc, b_dec = weights.get("encoder.bias", len(W_dec)), weights.get("decoder.bias", len(W_enc))
    return _Parts(W_enc, W_dec, b_enc, b_dec, relu(), subtract_b_dec=False, by_decoder_norm=True)


def _gated(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    W_enc, W_dec = _linear(weights)
    d_sae = len(W_dec)
    scale, b_gate = weights.get("r_mag", d_sae).exp(), weights.get("gate_bias", d_sae)
    activation = Gated(scale, weights.get("mag_bias", d_sae) - b_gate * scale)
    return _Parts(W_enc, W_dec, b_gate, weights.get("decoder_bias", len(W_enc)), activation)


def _jump_relu(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    W_enc, W_dec = _matrices(weights)
    b_enc, b_dec = weights.get("b_enc", len(W_dec)), weights.get("b_dec", len(W_enc))
    activation = Threshold(weights.scalar_or("threshold", len(W_dec)))
    return _Parts(W_enc, W_dec, b_enc, b_dec, activation, subtract_b_dec=False)


def _top_k(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    """Its threshold is for another way of encoding, which is not its default."""
    W_enc, W_dec = _linear(weights)
    b_enc, b_dec = weights.get("encoder.bias", len(W_dec)), weights.get("b_dec", len(W_enc))
    k = trainer["k"] if trainer.get("k") is not None else float(weights.get("k"))
    activation = TopK(selection_size(k, f"{weights.path}: k", len(W_dec)))
    return _Parts(W_enc, W_dec, b_enc, b_dec, activation)


def _batch_top_k(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    W_enc, W_dec = _linear(weights)
    b_enc, b_dec = weights.get("encoder.bias", len(W_dec)), weights.get("b_dec", len(W_enc))
    return _Parts(W_enc, W_dec, b_enc, b_dec, Threshold(weights.get("threshold")))


def _matryoshka(weights: Weights, trainer: dict[str, Any]) -> _Parts:
    W_enc, W_dec = _matrices(weights)
    b_enc, b_dec = weights.get("b_enc", len(W_dec)), weights.get("b_dec", len(W_enc))
    return _Parts(W_enc, W_dec, b_enc, b_dec, Threshold(weights.get("threshold")))


_CLASSES: dict[str, Callable[[Weights, dict[str, Any]], _Parts]] = {
    "AutoEncoder": _auto_encoder,
    "AutoEncoderNew": _auto_encoder_new,
    "GatedAutoEncoder": _gated,
    "JumpReluAutoEncoder": _jump_relu,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
}


def _hook(trainer: dict[str, Any]) -> tuple[str | None, str | None]:
    """The module's path, and the checkpoint's own word for the place.

    ``submodule_name`` is free text; the form ``resid_post_layer_3`` is the one its scripts give.
    """
    name, layer = trainer.get("submodule_name"), trainer.get("layer")
    family = family_of(trainer.get("lm_name"))
    residual = name is None or str(name).startswith("resid_post")
    known = family is not None and isinstance(layer, int) and residual
    return (f"{family.block}.{layer}.output" if family and known else None), name
