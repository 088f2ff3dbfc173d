"""Both releases of Gemma Scope against their definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coder_files import (
    D,
    M,
    Random,
    check,
    write_json,
)
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import relu

from autointerp.latents import AutointerpError
from autointerp.subject.checkpoints import load_coder


def _jump(r: Random, d_out: int = D) -> dict[str, Tensor]:
    return {
        "W_enc": r(D, M),
        "W_dec": r(M, d_out),
        "b_enc": r(M),
        "b_dec": r(d_out),
        "threshold": r(M).abs(),
    }


def _jump_acts(t: dict[str, Tensor], x: Tensor) -> Tensor:
    pre = x @ t["W_enc"] + t["b_enc"]
    return relu(pre) * (pre > t["threshold"])


@pytest.mark.parametrize("lower", [False, True])
def test_gemma_scope_is_jumprelu_and_never_subtracts(lower: bool, tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    t, x = _jump(Random(2)), Random(9)(7, D)
    arrays = {(k.lower() if lower else k): v.numpy() for k, v in t.items()}
    np.savez(folder / "params.npz", **arrays)
    acts = _jump_acts(t, x)
    check(folder, x, acts, acts @ t["W_dec"] + t["b_dec"])
    info = load_coder(folder).info
    assert (info.hook, info.l0) == ("model.layers.20.output", 71.0)
    assert info.model_name == "google/gemma-2-2b"


def test_gemma_scope_of_a_tuned_model_keeps_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "embedding" / "gemma-scope-9b-it-res" / "layer_9" / "width_16k"
    folder.mkdir(parents=True)
    t, x = _jump(Random(2)), Random(9)(7, D)
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in t.items()})
    acts = _jump_acts(t, x)  # its layer tells that it reads no embedding
    check(folder, x, acts, acts @ t["W_dec"] + t["b_dec"])
    info = load_coder(folder).info
    assert (info.model_name, info.hook) == ("google/gemma-2-9b-it", "model.layers.9.output")


def test_gemma_scope_embedding_coders_read_the_scaled_embedding(tmp_path: Path) -> None:
    folder = tmp_path / "embedding" / "width_4k" / "average_l0_21"
    folder.mkdir(parents=True)
    t, x = _jump(Random(2)), Random(9)(7, D)
    np.savez(folder / "params.npz", **{k: v.numpy() for k, v in t.items()})
    acts = _jump_acts(t, x / D**0.5)
    check(folder, x, acts, (acts @ t["W_dec"] + t["b_dec"]) * D**0.5)
    assert load_coder(folder).info.hook == "model.layers.0.input"


def test_gemma_scope_2_has_an_affine_skip_and_its_own_hook_points(tmp_path: Path) -> None:
    folder = tmp_path / "transcoder" / "layer_5_width_16k_l0_small_affine"
    folder.mkdir(parents=True)
    r = Random(3)
    t, x = _jump(r, d_out=5), Random(9)(7, D)
    skip = r(D, 5)
    stored = {k.lower(): v for k, v in t.items()} | {"affine_skip_connection": skip}
    save_file(stored, folder / "params.safetensors")
    acts = _jump_acts(t, x)
    out = acts @ t["W_dec"] + t["b_dec"] + x @ skip
    check(folder, x, acts, out)
    inferred = load_coder(folder).info
    config = {
        "architecture": "jump_relu",
        "model_name": "google/gemma-3-270m",
        "hf_hook_point_in": "model.layers.5.pre_feedforward_layernorm.output",
        "hf_hook_point_out": "model.layers.5.post_feedforward_layernorm.output",
        "affine_connection": True,
    }
    write_json(folder / "config.json", config)
    check(folder, x, acts, out)
    told = load_coder(folder).info
    assert told.hook == inferred.hook == config["hf_hook_point_in"]
    assert told.hook_out == inferred.hook_out == config["hf_hook_point_out"]


@pytest.mark.parametrize("name", ["params.safetensors", "params_layer_5.safetensors"])
def test_a_cross_layer_transcoder_is_refused_plainly(name: str, tmp_path: Path) -> None:
    t = {k.lower(): v for k, v in _jump(Random(3)).items()}
    save_file(t | {"w_dec": Random(4)(M, 2, D)}, tmp_path / name)
    with pytest.raises(AutointerpError, match="cross-layer transcoder"):
        load_coder(tmp_path)
