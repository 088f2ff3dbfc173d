"""circuit-tracer transcoders: ``config.yaml`` and one ``layer_{i}.safetensors`` a layer."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Threshold, relu
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    checkpoints,
    info,
    load_safetensors,
)
from autointerp.subject.checkpoints.hooks import module_path
from autointerp.subject.coders import SparseCoder

_LAYER = "layer_*.safetensors"
_THRESHOLD = "activation_function.threshold"


@checkpoints.register("circuit_tracer")
class CircuitTracer(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights(_LAYER))

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        path = files.one(_LAYER)
        config = _config(files)
        kind = str(config.get("model_kind", "transcoder_set"))
        weights = load_safetensors(path)
        decoder = weights.tensors.get("W_dec")
        if kind.startswith("cross_layer") or (isinstance(decoder, Tensor) and decoder.dim() == 3):
            raise AutointerpError(
                f"{files} is a cross-layer transcoder: it writes to several layers at once, "
                "which is not supported"
            )
        encoder = weights.get("W_enc", None, None)
        d_sae, d_in = encoder.shape
        W_dec = weights.get("W_dec", d_sae, None)
        d_out = W_dec.shape[1]
        layer = re.fullmatch(r"layer_(\d+)\.safetensors", path.name)
        model = config.get("model_name")
        places = [_hook(config.get(f"feature_{x}_hook"), layer) for x in ("input", "output")]
        jump = _THRESHOLD in weights
        return SparseCoder.assemble(
            W_enc=encoder.T,
            W_dec=W_dec,
            b_enc=weights.get("b_enc", d_sae),
            b_dec=weights.get("b_dec", d_out),
            activation=Threshold(weights.scalar_or(_THRESHOLD, d_sae)) if jump else relu(),
            subtract_b_dec=False,
            W_skip=weights.get("W_skip", d_out, d_in).T if "W_skip" in weights else None,
            info=info(
                files,
                "circuit_tracer",
                path,
                architecture="jumprelu" if jump else "relu",
                model_name=model,
                hook=module_path(places[0], model),
                hook_out=module_path(places[1], model),
                claimed_hook=places[0],
            ),
        )


def _hook(site: str | None, layer: re.Match[str] | None) -> str | None:
    """``mlp.hook_in`` of layer 3 → ``blocks.3.mlp.hook_in``."""
    return f"blocks.{layer[1]}.{site}" if site and layer else None


def _config(files: Files) -> dict[str, Any]:
    """config.yaml, {} if it is absent."""
    import yaml

    path = files.path("config.yaml")
    if path is None:
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise AutointerpError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(value, dict):
        raise AutointerpError(f"{path} must hold a mapping")
    return value
