"""EleutherAI sparsify: ``<hook point>/cfg.json`` and ``sae.safetensors``.

The rectifier comes before the selection, which selects the same. ``b_dec`` is subtracted unless
the coder is a transcoder. The folder's name is the module's path. Coders from before version 1
may be ``signed``: they select by magnitude and rectify nothing.
"""

from __future__ import annotations

import re

from autointerp.latents import AutointerpError
from autointerp.subject.activation_functions import Activation, GroupMax, TopK
from autointerp.subject.checkpoints.base import (
    Files,
    Reader,
    checkpoints,
    info,
    load_safetensors,
    selection_size,
)
from autointerp.subject.coders import SparseCoder

_WEIGHTS = "sae.safetensors"


@checkpoints.register("sparsify")
class Sparsify(Reader):
    @classmethod
    def matches(cls, files: Files) -> bool:
        return bool(files.weights(_WEIGHTS)) and files.path("cfg.json") is not None

    @classmethod
    def read(cls, files: Files) -> SparseCoder:
        config = files.json("cfg.json")
        path = files.one(_WEIGHTS)
        weights = load_safetensors(path)
        encoder = weights.get("encoder.weight", None, config.get("d_in"))
        decoder = weights.get("W_dec", len(encoder), None)
        d_sae, d_in = encoder.shape
        transcode = bool(config.get("transcode", False))
        skip = config.get("skip_connection", False)
        hook = _hook(files)
        kind = str(config.get("activation", "topk"))
        k = selection_size(config.get("k"), f"{files}: k in cfg.json", d_sae)
        return SparseCoder.assemble(
            W_enc=encoder.T,
            W_dec=decoder,
            b_enc=weights.get("encoder.bias", d_sae),
            b_dec=weights.get("b_dec", decoder.shape[1]),
            activation=_activation(kind, k, d_sae, bool(config.get("signed")), files),
            subtract_b_dec=not transcode,
            W_skip=weights.get("W_skip", None, d_in).T if skip else None,
            info=info(
                files,
                "sparsify",
                path,
                architecture=kind,
                hook=hook and f"{hook}.{'input' if transcode else 'output'}",
                hook_out=hook and f"{hook}.output" if transcode else None,
                claimed_hook=hook,
                l0=float(k),
            ),
        )


def _activation(kind: str, k: int, d_sae: int, signed: bool, files: Files) -> Activation:
    if kind == "topk":
        return TopK(k, by="magnitude", rectify=False) if signed else TopK(k)
    if kind != "groupmax":
        raise AutointerpError(f"{files}: unknown activation {kind!r} (known: topk, groupmax)")
    if d_sae % k:
        raise AutointerpError(f"{files}: groupmax cannot cut {d_sae} latents into {k} groups")
    return GroupMax(k)


def _hook(files: Files) -> str | None:
    """The folder's name, if it can be a module's path: ``layers.3.mlp``."""
    name = files.folder.resolve().name
    return name if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*\.\d+(\.[A-Za-z_]\w*)*", name) else None
