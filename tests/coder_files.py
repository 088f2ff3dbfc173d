"""Synthetic checkpoints of exactly the form of each layout, and how a reading is checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import relu

from autointerp.subject.checkpoints import load_coder

D, M, K = 8, 24, 3  # d_in, d_sae, k


class Random:
    """Deterministic tensors, made contiguous so that safetensors accepts them."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def top_k(pre: Tensor, k: int) -> Tensor:
    """The k largest of each row where they are positive, zero elsewhere; [n, M]."""
    values, latents = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, latents, relu(values))


def check(path: Path, x: Tensor, acts: Tensor, out: Tensor) -> None:
    """The coder at ``path`` encodes x [n, D] to acts [n, M], and decodes those to out."""
    coder = load_coder(path)
    torch.testing.assert_close(coder.encode(x), acts, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(coder.decode(acts, x), out, atol=1e-4, rtol=1e-4)


def linear_tensors(r: Random) -> dict[str, Tensor]:
    """A pair of linear layers, as torch stores them."""
    return {
        "encoder.weight": r(M, D),
        "encoder.bias": r(M),
        "decoder.weight": r(D, M),
        "decoder.bias": r(D),
    }


def write_sparsify(folder: Path, **config: Any) -> dict[str, Tensor]:
    r = Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"encoder.weight": r(M, D), "encoder.bias": r(M), "W_dec": r(M, D), "b_dec": r(D)}
    if config.get("skip_connection"):
        tensors["W_skip"] = r(D, D)
    save_file(tensors, folder / "sae.safetensors")
    cfg = {"activation": "topk", "expansion_factor": 3, "num_latents": 0, "k": K, "d_in": D}
    write_json(folder / "cfg.json", cfg | {"transcode": False, "skip_connection": False} | config)
    return tensors


def write_saelens(
    folder: Path, architecture: str, d_out: int = D, metadata: Any = None, **config: Any
) -> dict[str, Tensor]:
    r = Random(1)
    tensors = {"W_enc": r(D, M), "W_dec": r(M, d_out), "b_enc": r(M) * 0.1, "b_dec": r(d_out)}
    if architecture == "gated":
        del tensors["b_enc"]
        tensors |= {"b_gate": r(M), "b_mag": r(M), "r_mag": r(M) * 0.3}
    if "jumprelu" in architecture:
        tensors["threshold"] = r(M).abs()
    if "batchtopk" in architecture:
        tensors["topk_threshold"] = torch.tensor(0.8, dtype=torch.double)
    if "skip" in architecture:
        tensors["W_skip"] = r(d_out, D)
    save_file(tensors, folder / "sae_weights.safetensors")
    cfg = {
        "d_in": D,
        "d_sae": M,
        "d_out": d_out,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "architecture": architecture,
        "metadata": {"sae_lens_version": "6.5.0"} | (metadata or {}),
    }
    write_json(folder / "cfg.json", cfg | config)
    return tensors


def _matrices(r: Random) -> dict[str, Tensor]:
    return {"W_enc": r(D, M), "b_enc": r(M), "W_dec": r(M, D), "b_dec": r(D)}


def _linear_bias(r: Random, bias: str) -> dict[str, Tensor]:
    t = linear_tensors(r)
    t[bias] = t.pop("decoder.bias")
    return t


def _dictionary_tensors(kind: str) -> dict[str, Tensor]:
    r = Random(6)
    counts = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.7)}
    return {
        "AutoEncoder": lambda: _linear_bias(r, "bias"),
        "AutoEncoderNew": lambda: linear_tensors(r),
        "GatedAutoEncoder": lambda: {
            "decoder_bias": r(D),
            "encoder.weight": r(M, D),
            "r_mag": r(M) * 0.3,
            "gate_bias": r(M),
            "mag_bias": r(M),
            "decoder.weight": r(D, M),
        },
        "JumpReluAutoEncoder": lambda: _matrices(r) | {"threshold": r(M).abs()},
        "AutoEncoderTopK": lambda: _linear_bias(r, "b_dec") | counts,
        "BatchTopKSAE": lambda: _linear_bias(r, "b_dec") | counts,
        "MatryoshkaBatchTopKSAE": lambda: (
            _matrices(r) | counts | {"group_sizes": torch.tensor([8, 16])}
        ),
    }[kind]()


def write_dictionary(folder: Path, kind: str) -> dict[str, Tensor]:
    t = _dictionary_tensors(kind)
    torch.save(t, folder / "ae.pt")
    trainer = {"dict_class": kind, "k": K, "activation_dim": D, "dict_size": M, "layer": 3}
    trainer |= {"lm_name": "EleutherAI/pythia-70m-deduped", "submodule_name": "resid_post_layer_3"}
    write_json(folder / "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    return t
