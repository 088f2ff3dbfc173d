"""The layouts that are one torch file, against their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from coder_files import (
    D,
    K,
    M,
    Random,
    check,
    linear_tensors,
    top_k,
)
from torch.nn.functional import relu

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import load_coder


@pytest.mark.parametrize("kind", ["TopK", "TopK of Identity", "ReLU"])
def test_openai(kind: str, tmp_path: Path) -> None:
    r, x = Random(7), Random(9)(7, D) * 2 + 1
    t = {"encoder.weight": r(M, D), "pre_bias": r(D), "latent_bias": r(M)}
    t["decoder.weight"] = r(D, M)
    state: dict[str, Any] = {"activation": kind.split()[0]}
    if kind != "ReLU":
        after = "Identity" if kind.endswith("Identity") else "ReLU"
        state["activation_state_dict"] = {"k": 20, "postact_fn": after}
    folder = tmp_path / "resid_delta_mlp" / "autoencoders"
    folder.mkdir(parents=True)
    torch.save(t | state, folder / "8.pt")
    mean, spread = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    inner = x if kind == "ReLU" else (x - mean) / (spread + 1e-5)
    pre = (inner - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    if kind == "ReLU":
        acts = relu(pre)
    else:
        values, latents = pre.topk(20)
        values = values if kind.endswith("Identity") else relu(values)
        acts = torch.zeros_like(pre).scatter_(-1, latents, values)
    out = acts @ t["decoder.weight"].T + t["pre_bias"]
    check(folder / "8.pt", x, acts, out if kind == "ReLU" else out * spread + mean)
    assert load_coder(folder / "8.pt").info.hook == "transformer.h.8.mlp.output"


def test_qwen_scope_has_its_k_in_the_repositorys_name(tmp_path: Path) -> None:
    r, x = Random(8), Random(9)(7, D)
    t = {"W_enc": r(M, D), "W_dec": r(D, M), "b_enc": r(M), "b_dec": r(D)}
    torch.save(t, tmp_path / "layer4.sae.pt")
    with pytest.raises(AutointerpError, match="repository's name"):
        load_coder(tmp_path / "layer4.sae.pt")
    folder = tmp_path / "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    folder.mkdir()
    for layer in (4, 5):
        torch.save(t, folder / f"layer{layer}.sae.pt")
    acts = top_k(x @ t["W_enc"].T + t["b_enc"], K)
    check(folder / "layer4.sae.pt", x, acts, acts @ t["W_dec"].T + t["b_dec"])
    info = load_coder(folder / "layer4.sae.pt").info
    assert (info.hook, info.model_name) == ("model.layers.4.output", "Qwen/Qwen3-1.7B-Base")
    with pytest.raises(AutointerpError, match="several coders"):
        load_coder(folder)


def test_goodfire(tmp_path: Path) -> None:
    r, x = Random(10), Random(9)(7, D)
    t = {f"{k.replace('.', '_linear.')}": v for k, v in linear_tensors(r).items()}
    path = tmp_path / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    torch.save(t, path)
    acts = relu(x @ t["encoder_linear.weight"].T + t["encoder_linear.bias"])
    out = acts @ t["decoder_linear.weight"].T + t["decoder_linear.bias"]
    check(path, x, acts, out)
    assert load_coder(path).info.hook == "model.layers.19.output"
